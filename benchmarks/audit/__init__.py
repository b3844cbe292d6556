"""What an audit of ten million rows costs, and pictures of its page."""
