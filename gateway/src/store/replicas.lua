-- Notes that a gateway lives, forgets those that have not said so lately, and counts the rest.
-- KEYS[1]; arguments: the gateway's id, and after how many microseconds silence means that it is gone.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2]) / 1000) * 2)
return redis.call('ZCARD', KEYS[1])
