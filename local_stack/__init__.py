"""The whole system on one machine: Postgres, Realtime, REST and twins, no Docker."""
