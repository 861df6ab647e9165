-- Fragment: first write of every script that must run under a full memory, so that producers are refused and consumers drain.
-- Rules (docs/lease-model.md): none.
-- A server below 7 knows no `allow-oom`: it refuses a script at its first write, unless that write can only free. Needs: clock.
redis.call('HDEL', clock, '')
