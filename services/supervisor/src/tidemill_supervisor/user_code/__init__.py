"""Files that are put beside user code; none of them is imported by the Worker."""
