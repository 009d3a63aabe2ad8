"""Exposed Services as the gateway sees them: where they answer, who may ask, and how requests get there and back."""
