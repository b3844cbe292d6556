"""Speed and memory of the loss, against its peers, its floor and other commits."""
