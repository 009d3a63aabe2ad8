"""Workers as Kubernetes Jobs: one Job a Worker, created with one write, followed by watches."""
