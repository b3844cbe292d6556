"""How near estimates of log q come to the truth, what they cost and what they bring."""
