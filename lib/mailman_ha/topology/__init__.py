"""A site's description, the resources and constraints it asks for, and what Pacemaker makes of
them."""
