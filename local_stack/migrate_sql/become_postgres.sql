-- A superuser's address would give the objects an owner that the hosted platform refuses.
set role postgres;
