"""Resources, actions and queries; a call named `ns.verb` lives in `ns.py` or `ns/verb.py` here."""
