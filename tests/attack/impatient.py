"""`python impatient.py ARG...` is sloth-runner with limits of seconds where the real ones are a minute."""

from sloth.engine import confirm, delegates, query, reconnection, returning, sessions
from sloth.transport import outbox, queries, session

session.PING, session.SILENCE, session.BYE, session.CLOSE = 1.0, 8.0, 8.0, 2.0
sessions.BOOTSTRAP = outbox.STALLED = 15.0
returning.REVERT, returning.RETURN, confirm.QUERY, reconnection.QUERY = 8.0, 3.0, 4.0, 4.0
delegates.END, query.ANSWER = 4.0, 8.0
queries.READ, queries.WORK, queries.TURN = 8.0, 12.0, 1.0

if __name__ == "__main__":
    from sloth.cli import command_line

    command_line()
