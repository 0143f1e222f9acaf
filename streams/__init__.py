"""Stream processors, executors and their hosts; may import domain, storage, merkle, chain and projections."""
