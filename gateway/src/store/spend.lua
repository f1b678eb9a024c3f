-- Spends units of several limits, all or nothing, in the server's own time.
-- Each limit: KEYS[i] and seven arguments: kind (r = rate, d = day, m = month), size (microseconds a unit; units a window),
-- most (microseconds a key may run ahead), units wanted, units that are enough, what the gateway itself knows was spent,
-- and 1 when it is only watched.
-- Answers: the first limit that refused (0 for none), then for each limit the units granted and the level afterwards
-- (microseconds ahead; units used).
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000000 + tonumber(time[2])

-- Days from 1970 to the first of a month, and the end of the month of a day (Howard Hinnant's civil calendar algorithms).
local function days(year, month)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5)
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end
local function month_ends()
  local day = math.floor(seconds / 86400) + 719468
  local era = math.floor(day / 146097)
  local of_era = day - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153) + 4
  year = year + era * 400
  if month > 12 then month = month - 12; year = year + 1 end
  return days(year, month) * 86400
end
local function ends(kind)
  if kind == 'd' then return (math.floor(seconds / 86400) + 1) * 86400 end
  return month_ends()
end

local refused = 0
local granted, levels = {}, {}
for i = 1, #KEYS do
  local at = (i - 1) * 7
  local kind, size, most = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local units, least, known = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local stored = tonumber(redis.call('GET', KEYS[i]) or '0')
  granted[i] = 0
  if kind == 'r' then
    levels[i] = math.max(stored - now, known, 0)
    if levels[i] + units * size <= most then
      granted[i] = units
    elseif levels[i] + least * size <= math.max(most, least * size) then
      granted[i] = least
    end
  else
    levels[i] = math.max(stored, known)
    if levels[i] == 0 or levels[i] + least <= size then granted[i] = least end
  end
  if granted[i] == 0 and ARGV[at + 7] == '0' and refused == 0 then refused = i end
end

local answer = { refused }
for i = 1, #KEYS do
  local at = (i - 1) * 7
  if refused ~= 0 then granted[i] = 0 end
  if granted[i] > 0 then
    if ARGV[at + 1] == 'r' then
      levels[i] = levels[i] + granted[i] * tonumber(ARGV[at + 2])
      redis.call('SET', KEYS[i], string.format('%.0f', now + levels[i]), 'PX', math.ceil(levels[i] / 1000) + 1)
    else
      levels[i] = levels[i] + granted[i]
      redis.call('SET', KEYS[i], string.format('%.0f', levels[i]), 'EXAT', ends(ARGV[at + 1]))
    end
  end
  answer[2 * i] = granted[i]
  answer[2 * i + 1] = levels[i]
end
return answer
