"""Conversations, kept: storage that knows nothing of HTTP, of runs or of models; and the service that does.

`store.Store` has the conversations and their trees of messages, in SQLite or any database that SQLAlchemy knows;
`writer.ConversationWriter` writes down answers while they grow, a few times a second, all in one transaction.
`values` are what goes in and out. `database` opens the file and says in our own errors what is wrong with it;
`schema` are the tables; `texts` makes titles, snippets and what a database can hold.

`service.Conversations` starts what a turn asks for, and has it written down; it imports the others when the gateway
serves. Nothing outside this package knows SQLAlchemy, and only `tailrace serve` imports it, beside its serving;
`values`, `texts` and `service` do without it.
"""
