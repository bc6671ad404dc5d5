"""`chargen explain`: the claims of articles on recurrent networks, as experiments of a few seconds.

- `group`: the commands.
- `lessons`: one command for each claim.
"""
