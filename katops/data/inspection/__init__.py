"""``katops inspect``: what files hold, as text and as a picture."""
