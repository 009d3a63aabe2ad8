"""Exposed Services in a cluster, as OSCAR's objects: a Deployment and what belongs to it, followed by watches."""
