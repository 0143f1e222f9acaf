-- All that came under one owner's key, in order: what support reads of a purchase.

CREATE INDEX stored_events_parcels_owner ON stored_events_parcels (owner, number);
