"""What at least two of tidemill's components share: on the wire, or in process life."""
