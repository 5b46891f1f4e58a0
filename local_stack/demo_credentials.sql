insert into sync.credentials as known (connection_id, key_id, ciphertext)
values (%(connection_id)s, %(key_id)s, %(ciphertext)s)
on conflict (connection_id) do update
set key_id = excluded.key_id, ciphertext = excluded.ciphertext;
