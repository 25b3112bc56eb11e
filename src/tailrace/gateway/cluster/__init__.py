"""Several worker processes behind one address: `tailrace serve --workers N`. What `docs/gateway.md` says of it."""
