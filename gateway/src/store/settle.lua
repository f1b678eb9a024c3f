-- Adds units to what a key has spent, or takes some away, whether they are there or not.
-- KEYS[1]; arguments as in spend.lua: kind, size, most, and the units, below zero to give back.
-- A calendar window that is over meanwhile is not opened again by what is given back.
local kind, size, most, units = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('GET', KEYS[1])
if kind == 'r' then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local before = math.max(tonumber(stored or '0') - now, 0)
  local ahead = math.min(before + units * size, math.max(2 * most, before))
  if ahead <= 0 then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000) + 1)
  end
elseif stored then
  redis.call('SET', KEYS[1], string.format('%.0f', math.max(tonumber(stored) + units, 0)), 'KEEPTTL')
end
return 1
