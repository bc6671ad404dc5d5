"""What a text holds and what a run did: reports and figures."""
