"""All we know of the outside: no SQL, no queue, no settings of ours."""
