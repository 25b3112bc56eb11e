"""Stored conversations: a store that knows nothing of HTTP, runs or models, and the service that connects it to them.

`store.Store` has the conversations and their trees of messages, in SQLite or any database that SQLAlchemy knows;
`writer.ConversationWriter` stores answers while they stream, a few times a second, all in one transaction. `values` are
the types of arguments and results. `database` opens the database and maps its errors to ours; `schema` has the tables;
`texts` makes titles and snippets, and replaces characters that a database cannot hold.

`service.Conversations` starts the answer of a turn and has it stored; it imports the store when the gateway serves.
Nothing outside this package uses SQLAlchemy, and only `tailrace serve` imports it, in the background; `values`, `texts`
and `service` do not need it.
"""
