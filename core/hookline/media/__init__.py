"""Media of requests on their way to the scheduler: fetched, decoded, processed, kept in shared memory."""
