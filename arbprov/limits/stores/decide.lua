-- One decision over all charges of a call, by this server's time. It decides as memory.py does, with
-- the algorithms of algorithms.py; a bucket's state is the same doubles, one after the other.
--
-- KEYS: the generation of the data, the processes, the recovery, the holders of leases, and for each
--       charge its state and its cooldown.
-- ARGV: the operation, the generation that the caller knows, the caller's name, its name as a holder
--       of leases, and two numbers for the operation; then a text for each charge, see CHARGE; then
--       the usage to merge, leases of the caller, or the actions of cooldowns.
-- Returns "ok" and the operation's answer; "lost" if the data are not of the generation that the
-- caller knows; "recovering" if processes have yet to report the calls of an outage; "dropped" if
-- fewer units are counted than the caller knows; "renew" if a quota has ended, so that the caller
-- computes its next end; or "former" if the caller holds leases in another name by now.
--
-- Processes with other versions of arbprov use the same data: keys and states never change. A
-- cooldown is called a gate in keys and operations, and an algorithm has its own name in `kind`.

local OPERATION, KNOWN, CALLER, HOLDER = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local FIRST, SECOND = tonumber(ARGV[5]), tonumber(ARGV[6])
local HEAD = 6
-- A charge's kind, three parameters, cost, "1" for a shadow limit, the units that must be counted
-- already, and the caller's name for a lease.
local CHARGE = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
local HEAD_KEYS = 4
local STEPS, ROUNDING = 1000, 1e-6
-- Seconds after which a cooldown is forgotten that no call has probed.
local FORGOTTEN_AFTER = 3600
-- Seconds that a recovery waits for the processes that have not reported: they may have ended.
local MAX_RECOVERY = 30
-- Seconds after which a process without a heartbeat counts as gone, and its leases have lapsed.
local PEER_LIFETIME = 30
-- Seconds after which the leases of a bucket are forgotten that no call has asked for.
local LEASES_FORGOTTEN_AFTER = 604800
-- Seconds for which a question in the former name of a holder may be on its way.
local FORMER_LIFETIME = 3600
local INFINITY = math.huge

local function text(number)
  return string.format('%.17g', number)
end

-- A state is a string of doubles; places count from 0, as in Python.

local function size(state)
  return #state / 8
end

local function get(state, place)
  return (struct.unpack('<d', state, place * 8 + 1))
end

local function pack(...)
  return struct.pack('<' .. string.rep('d', select('#', ...)), ...)
end

-- Returns the state with `new` instead of the doubles from `place` to before `until_place`.
local function splice(state, place, until_place, new)
  return state:sub(1, place * 8) .. new .. state:sub(until_place * 8 + 1)
end

local function set(state, place, number)
  return splice(state, place, place + 1, pack(number))
end

-- Returns the shortest wait after which a clock at `now` shows `moment` or later.
local function seconds_until(now, moment)
  local wait = moment - now
  while now + wait < moment do
    local _, exponent = math.frexp(wait)
    wait = wait + math.ldexp(1, exponent - 53)
  end
  return wait
end

-- The algorithms: `peek` returns the wait, the units left, and the state without ended charges.

local window, bucket, quota, semaphore = {}, {}, {}, {}
local ALGORITHMS = { window = window, bucket = bucket, quota = quota, semaphore = semaphore }

function window.initial_state()
  return pack(0)
end

function window.expire(state, now)
  local place, gone = 1, 0
  while place < size(state) and get(state, place) <= now do
    gone = gone + get(state, place + 1)
    place = place + 2
  end
  if gone == 0 then
    return state
  end
  return set(splice(state, 1, place, ''), 0, get(state, 0) - gone)
end

function window.ending(charge, now)
  local amount, period = charge.first, charge.second
  local step = math.ceil(now * STEPS / period) + STEPS
  local moment = step * period / STEPS
  if moment - now >= period then
    return moment
  end
  return (step + 1) * period / STEPS
end

function window.insert(state, moment, cost)
  local place = size(state)
  while place > 1 and get(state, place - 2) > moment do
    place = place - 2
  end
  if place > 1 and get(state, place - 2) == moment then
    state = set(state, place - 1, get(state, place - 1) + cost)
  else
    state = splice(state, place, place, pack(moment, cost))
  end
  return set(state, 0, get(state, 0) + cost)
end

function window.peek(charge, state, now, cost)
  local amount, period = charge.first, charge.second
  state = window.expire(state, now)
  local left = amount - get(state, 0)
  if cost <= left then
    return 0, left, state
  end
  local later = math.max(0, math.ceil((cost - amount) / amount))
  local lacking, place = get(state, 0) + cost - later * amount - amount, 1
  while lacking > 0 do
    lacking = lacking - get(state, place + 1)
    place = place + 2
  end
  local wait = place > 1 and seconds_until(now, get(state, place - 2)) or 0
  return wait + later * period, math.max(0, left), state
end

function window.charge(charge, state, now, cost)
  state = window.insert(state, window.ending(charge, now), cost)
  if size(state) > 1 + 2 * (STEPS + 1) then
    -- Floats made a step too many: merge the two oldest entries.
    state = splice(set(state, 4, get(state, 4) + get(state, 2)), 1, 3, '')
  end
  return state
end

function window.refund(charge, state, charged_at, cost)
  local moment = window.ending(charge, charged_at)
  for place = size(state) - 2, 1, -2 do
    if get(state, place) == moment then
      local units = math.min(cost, get(state, place + 1))
      local rest = get(state, place + 1) - units
      state = set(state, 0, get(state, 0) - units)
      if rest == 0 then
        return splice(state, place, place + 2, '')
      end
      return set(state, place + 1, rest)
    end
  end
  return state
end

-- Removes up to `units` from the last entries before `place`.
function window.remove(state, place, units)
  local lacking = units
  while place > 1 and lacking > 0 do
    local removed = math.min(lacking, get(state, place - 1))
    lacking = lacking - removed
    state = set(state, place - 1, get(state, place - 1) - removed)
    place = place - 2
    if get(state, place + 1) == 0 then
      state = splice(state, place, place + 2, '')
    end
  end
  return set(state, 0, get(state, 0) - (units - lacking))
end

-- Returns the end of the step that a moment is in; the division may have rounded down.
function window.round_up(charge, moment)
  local step = math.ceil(moment * STEPS / charge.second)
  local ending = step * charge.second / STEPS
  return ending >= moment and ending or (step + 1) * charge.second / STEPS
end

function window.report(charge, state, now, used, reset_in)
  local amount, period = charge.first, charge.second
  state = window.expire(state, now)
  local moment = window.round_up(charge, now + math.min(reset_in, period))
  local place, missing = size(state), math.min(used, amount)
  while place > 1 and get(state, place - 2) >= moment do
    place = place - 2
    missing = missing - get(state, place + 1)
  end
  if missing <= 0 then
    return state
  end
  return window.insert(window.remove(state, place, missing), moment, missing)
end

function window.merge(charge, state, now, seconds, cost)
  return window.insert(state, window.round_up(charge, now + seconds), cost)
end

function window.lasts_until(state)
  return size(state) > 1 and get(state, size(state) - 2) or -INFINITY
end

function bucket.initial_state()
  return pack(-INFINITY, -INFINITY)
end

function bucket.peek(charge, state, now, cost)
  local capacity, interval = charge.first, charge.second
  local full_at = math.max(get(state, 0), now)
  local ready = full_at - (capacity - cost) * interval
  local lacking = math.ceil((full_at - now) / interval - ROUNDING)
  local is_ready = ready - now <= interval * ROUNDING
  return is_ready and 0 or seconds_until(now, ready), math.max(0, capacity - lacking), state
end

function bucket.charge(charge, state, now, cost)
  return pack(math.max(get(state, 0), now) + cost * charge.second, now)
end

function bucket.refund(charge, state, charged_at, cost)
  local back = math.max(0, cost * charge.second - (get(state, 1) - charged_at))
  return set(state, 0, get(state, 0) - back)
end

function bucket.report(charge, state, now, used, reset_in)
  local full_at = now + math.min(used, charge.first) * charge.second
  return set(state, 0, math.max(get(state, 0), full_at))
end

function bucket.merge(charge, state, now, seconds, cost)
  return set(state, 0, math.max(get(state, 0), now) + seconds)
end

function bucket.lasts_until(state)
  return get(state, 0)
end

function quota.initial_state()
  return pack(0, -INFINITY, -INFINITY)
end

function quota.renew(charge, state, now)
  if now >= get(state, 2) then
    return pack(0, now, charge.second)
  end
  return state
end

function quota.peek(charge, state, now, cost)
  local amount = charge.first
  state = quota.renew(charge, state, now)
  local left = amount - get(state, 0)
  if cost <= left then
    return 0, left, state
  end
  local later = math.max(0, math.ceil((cost - amount) / amount))
  return seconds_until(now, get(state, 2)) + later * charge.third, math.max(0, left), state
end

function quota.charge(charge, state, now, cost)
  state = quota.renew(charge, state, now)
  return set(state, 0, get(state, 0) + cost)
end

function quota.refund(charge, state, charged_at, cost)
  if charged_at < get(state, 1) then
    return state
  end
  return set(state, 0, math.max(0, get(state, 0) - cost))
end

function quota.report(charge, state, now, used, reset_in)
  state = quota.renew(charge, state, now)
  return set(state, 0, math.max(get(state, 0), math.min(used, charge.first)))
end

function quota.merge(charge, state, now, seconds, cost)
  return quota.charge(charge, state, now, cost)
end

function quota.lasts_until(state)
  return get(state, 0) > 0 and get(state, 2) or -INFINITY
end

-- A semaphore has no string of doubles: it has a hash of the units by lease. A lease is its holder
-- and that holder's name for it, as in '5f0c 17'. A holder is a process, but not the caller: a worker
-- that is replaced leaves its name to its successor, which gives heartbeats in that name. The holders
-- have the times of their heartbeats; a former name has the time of its end, with a minus sign.

local has_lapsed = false

local function is_former()
  local beat = redis.call('ZSCORE', KEYS[4], HOLDER)
  return beat and tonumber(beat) < 0
end

-- Notes that the holder lives, and whether its leases may have lapsed.
local function keep_leases(now)
  local beat = redis.call('ZSCORE', KEYS[4], HOLDER)
  has_lapsed = has_lapsed or not beat or tonumber(beat) < now - PEER_LIFETIME
  redis.call('ZADD', KEYS[4], text(now), HOLDER)
end

-- Returns the units that calls hold, but for the lease of the charge itself; drops the leases of
-- processes that are gone.
function semaphore.load(charge, now)
  local leases, held, is_alive = redis.call('HGETALL', charge.state_key), 0, {}
  for place = 1, #leases, 2 do
    local lease = leases[place]
    local holder = lease:match('^%S+')
    if is_alive[holder] == nil then
      local beat = redis.call('ZSCORE', KEYS[4], holder)
      is_alive[holder] = beat and tonumber(beat) >= now - PEER_LIFETIME or false
    end
    if not is_alive[holder] then
      redis.call('HDEL', charge.state_key, lease)
    elseif lease ~= charge.lease then
      held = held + tonumber(leases[place + 1])
    end
  end
  return held
end

function semaphore.peek(charge, held, now, cost)
  local left = charge.first - held
  charge.used = held
  return cost <= left and 0 or charge.second, math.max(0, left), held
end

function semaphore.hold(charge, lease, units, now)
  redis.call('HSET', charge.state_key, lease, units)
  redis.call('EXPIRE', charge.state_key, LEASES_FORGOTTEN_AFTER)
  keep_leases(now)
end

function semaphore.release(charge)
  redis.call('HDEL', charge.state_key, charge.lease)
end

-- The buckets and their cooldowns.

local function load(charge, now)
  if charge.algorithm == semaphore then
    return semaphore.load(charge, now)
  end
  return redis.call('GET', charge.state_key) or charge.algorithm.initial_state()
end

local function save(charge, state, now)
  local rest = math.ceil((charge.algorithm.lasts_until(state) - now) * 1000)
  if rest > 0 then
    redis.call('SET', charge.state_key, state, 'PX', text(rest))
  else
    redis.call('DEL', charge.state_key)
  end
end

-- A cooldown is its end, the timeout of its probe, and the time until which a probe is waited for;
-- after these doubles follows the name of the action that started it, if that is known.
local COOLDOWN_SIZE = 24

local function cooldown_wait(cooldown, now)
  if not cooldown then
    return 0
  end
  local ends = math.max(get(cooldown, 0), get(cooldown, 2))
  return ends > now and seconds_until(now, ends) or 0
end

local function load_cooldown(charge, now)
  local cooldown = redis.call('GET', charge.cooldown_key)
  return cooldown and get(cooldown, 0) + FORGOTTEN_AFTER > now and cooldown or nil
end

local function save_cooldown(charge, cooldown, now)
  local rest = math.ceil((get(cooldown, 0) + FORGOTTEN_AFTER - now) * 1000)
  redis.call('SET', charge.cooldown_key, cooldown, 'PX', text(math.max(1, rest)))
end

-- A recovery lasts until each process that is known has reported the calls of an outage. Its value
-- is its end at the latest and then the processes, with '-' before each that has not reported yet,
-- and '+' before each that has: '1774735230 -5f0c +b27e '.

local is_recovering = false

local function load_recovery(now)
  local recovery = redis.call('GET', KEYS[3])
  return recovery and tonumber(recovery:match('^%S+')) > now and recovery or nil
end

local function save_recovery(recovery, now)
  is_recovering = recovery:find(' -', 1, true) ~= nil
  if is_recovering then
    local rest = math.ceil((tonumber(recovery:match('^%S+')) - now) * 1000)
    redis.call('SET', KEYS[3], recovery, 'PX', text(math.max(1, rest)))
  else
    redis.call('DEL', KEYS[3])
  end
end

local function place_of(recovery, process)
  return recovery:find(' -' .. process .. ' ', 1, true)
    or recovery:find(' +' .. process .. ' ', 1, true)
end

local function mark(recovery, process, sign)
  local place = place_of(recovery, process)
  if place then
    return recovery:sub(1, place) .. sign .. recovery:sub(place + 2)
  end
  return recovery .. sign .. process .. ' '
end

-- Notes that the caller has yet to report, and returns whether the recovery knew the caller.
local function await_caller(now, others)
  local recovery = load_recovery(now)
  local is_known = not recovery or place_of(recovery, CALLER) ~= nil
  recovery = mark(recovery or text(now + MAX_RECOVERY) .. ' ', CALLER, '-')
  for _, process in ipairs(others) do
    if not place_of(recovery, process) then
      recovery = mark(recovery, process, '-')
    end
  end
  save_recovery(recovery, now)
  return is_known
end

-- The operations.

-- Sets the answer of each charge, and returns whether the call is refused.
local function peek(charges, now)
  local refused = false
  for _, charge in ipairs(charges) do
    local started = load_cooldown(charge, now)
    local cooldown = cooldown_wait(started, now)
    charge.wait, charge.left, charge.state =
      charge.algorithm.peek(charge, load(charge, now), now, charge.cost)
    charge.in_cooldown = cooldown > charge.wait
    charge.awaits_probe = charge.in_cooldown and get(started, 0) <= now
    charge.cooldown_action = started and started:sub(COOLDOWN_SIZE + 1) or ''
    charge.wait = math.max(cooldown, charge.wait)
    refused = refused or (charge.wait > 0 and not charge.shadow)
  end
  return refused
end

local function answers(now, charged, probing, charges)
  local reply = { 'ok', text(now), charged and 1 or 0, probing and 1 or 0 }
  for _, charge in ipairs(charges) do
    reply[#reply + 1] = text(charge.wait)
    reply[#reply + 1] = text(charge.left)
    reply[#reply + 1] = charge.awaits_probe and 2 or charge.in_cooldown and 1 or 0
    reply[#reply + 1] = charge.cooldown_action
  end
  return reply
end

local function counts_less_than_known(charges)
  for _, charge in ipairs(charges) do
    if charge.wait == 0 and (charge.used or charge.first - charge.left) < charge.known then
      return true
    end
  end
  return false
end

local operations = {}

function operations.peek(charges, now)
  peek(charges, now)
  return answers(now, false, false, charges)
end

function operations.acquire(charges, now)
  if peek(charges, now) then
    for _, charge in ipairs(charges) do
      if charge.algorithm == semaphore then
        -- The caller may have told of this lease, before this answer.
        semaphore.release(charge)
      end
    end
    return answers(now, false, false, charges)
  end
  if counts_less_than_known(charges) then
    return { 'dropped', text(now) }
  end
  local probing = false
  for _, charge in ipairs(charges) do
    if charge.wait == 0 then
      if charge.algorithm == semaphore then
        semaphore.hold(charge, charge.lease, charge.cost, now)
      else
        save(charge, charge.algorithm.charge(charge, charge.state, now, charge.cost), now)
      end
      charge.left = charge.left - charge.cost
      local cooldown = load_cooldown(charge, now)
      if cooldown then
        probing = true
        save_cooldown(charge, set(cooldown, 2, now + get(cooldown, 1)), now)
      end
    end
  end
  return answers(now, true, probing, charges)
end

-- For a process that has reported, and keeps to its share besides.
operations.acquire_recovering = operations.acquire

function operations.refund(charges, now)
  for _, charge in ipairs(charges) do
    local state = charge.algorithm ~= semaphore and redis.call('GET', charge.state_key)
    if charge.algorithm == semaphore then
      semaphore.release(charge)
    elseif state then
      save(charge, charge.algorithm.refund(charge, state, FIRST, charge.cost), now)
    end
  end
  return { 'ok', text(now) }
end

-- Counts the charges that were made at FIRST as of now. A bucket keeps to a pace, and stays.
function operations.move(charges, now)
  for _, charge in ipairs(charges) do
    if charge.algorithm == window or charge.algorithm == quota then
      local state = charge.algorithm.refund(charge, load(charge, now), FIRST, charge.cost)
      save(charge, charge.algorithm.charge(charge, state, now, charge.cost), now)
    end
  end
  return { 'ok', text(now) }
end

function operations.report(charges, now)
  for _, charge in ipairs(charges) do
    save(charge, charge.algorithm.report(charge, load(charge, now), now, FIRST, SECOND), now)
  end
  return { 'ok', text(now) }
end

-- Adds usage that was charged elsewhere: the seconds that it still counts, and its units.
function operations.merge(charges, now)
  local charge = charges[1]
  local state = load(charge, now)
  for place = HEAD + 2, #ARGV, 2 do
    local seconds, cost = tonumber(ARGV[place]), tonumber(ARGV[place + 1])
    state = charge.algorithm.merge(charge, state, now, seconds, cost)
  end
  save(charge, state, now)
  return { 'ok', text(now) }
end

-- Sets leases of the caller in a bucket: the name and the units of each, 0 if it is over. All other
-- leases stay: calls may have got them since the caller has asked for this.
function operations.hold(charges, now)
  local charge = charges[1]
  for place = HEAD + 2, #ARGV, 2 do
    local lease, units = HOLDER .. ' ' .. ARGV[place], ARGV[place + 1]
    if units == '0' then
      redis.call('HDEL', charge.state_key, lease)
    else
      semaphore.hold(charge, lease, units, now)
    end
  end
  return { 'ok', text(now) }
end

function operations.close_gate(charges, now)
  for number, charge in ipairs(charges) do
    local cooldown = load_cooldown(charge, now) or pack(-INFINITY, SECOND, -INFINITY)
    local action = ARGV[HEAD + #charges + number]
    cooldown = pack(math.max(get(cooldown, 0), now + FIRST), SECOND, -INFINITY) .. action
    save_cooldown(charge, cooldown, now)
  end
  return { 'ok', text(now) }
end

function operations.pass_gate(charges, now)
  for _, charge in ipairs(charges) do
    local cooldown = load_cooldown(charge, now)
    if cooldown then
      save_cooldown(charge, set(cooldown, 2, -INFINITY), now)
    end
  end
  return { 'ok', text(now) }
end

function operations.reopen_gate(charges, now)
  for _, charge in ipairs(charges) do
    local cooldown = load_cooldown(charge, now)
    if cooldown and get(cooldown, 0) <= now then
      redis.call('DEL', charge.cooldown_key)
    end
  end
  return { 'ok', text(now) }
end

-- Notes that the caller is alive, and drops processes without a heartbeat. Returns the names of all
-- processes.
function operations.beat(charges, now)
  keep_leases(now)
  redis.call('ZADD', KEYS[2], text(now), CALLER)
  local latest = '(' .. text(now - PEER_LIFETIME)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', latest)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '(' .. text(FORMER_LIFETIME - now), latest)
  local reply = redis.call('ZRANGE', KEYS[2], 0, -1)
  table.insert(reply, 1, text(now))
  table.insert(reply, 1, 'ok')
  return reply
end

-- Begins a recovery, or joins it: the caller was away, and other processes may have been. It holds
-- leases in a new name, and all leases of its former name are over.
function operations.rejoin(charges, now)
  redis.call('ZADD', KEYS[4], text(-now), ARGV[HEAD + 1])
  keep_leases(now)
  redis.call('ZADD', KEYS[2], text(now), CALLER)
  local is_known = await_caller(now, { unpack(ARGV, HEAD + 2) })
  return { 'ok', text(now), is_known and 1 or 0 }
end

-- Notes that the caller has reported the calls of the outage.
function operations.reported(charges, now)
  local recovery = load_recovery(now)
  if recovery then
    save_recovery(mark(recovery, CALLER, '+'), now)
  end
  return { 'ok', text(now) }
end

local function charges_of(now)
  local charges = {}
  for number = 1, (#KEYS - HEAD_KEYS) / 2 do
    local kind, first, second, third, cost, shadow, known, lease =
      ARGV[HEAD + number]:match(CHARGE)
    charges[number] = {
      state_key = KEYS[HEAD_KEYS + number * 2 - 1],
      cooldown_key = KEYS[HEAD_KEYS + number * 2],
      kind = kind,
      algorithm = ALGORITHMS[kind],
      first = tonumber(first),
      second = tonumber(second),
      third = tonumber(third),
      cost = tonumber(cost),
      shadow = shadow == '1',
      known = tonumber(known),
      lease = HOLDER .. ' ' .. lease,
    }
  end
  return charges
end

local function server_time()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local now = server_time()
local generation, recovery = unpack(redis.call('MGET', KEYS[1], KEYS[3]))
if not generation then
  generation = CALLER .. '@' .. text(now)
  redis.call('SET', KEYS[1], generation)
end
if KNOWN ~= '' and KNOWN ~= generation then
  -- At once, so that no process that has just started takes the lost data for unused limits.
  await_caller(now, {})
  return { 'lost', text(now), generation }
end
is_recovering = recovery and load_recovery(now) ~= nil
if is_recovering and OPERATION == 'acquire' then
  return { 'recovering', text(now), generation }
end
local charges = charges_of(now)
local is_about_leases = OPERATION == 'beat'
for _, charge in ipairs(charges) do
  is_about_leases = is_about_leases or charge.algorithm == semaphore
  if charge.kind == 'quota' and now >= charge.second then
    return { 'renew', text(now), generation }
  end
end
if is_about_leases and is_former() then
  return { 'former', text(now), generation }
end
local reply = operations[OPERATION](charges, now)
reply[#reply + 1] = has_lapsed and 1 or 0
reply[#reply + 1] = is_recovering and 1 or 0
-- The number of processes is in each answer, since the server may be away for the next one.
reply[#reply + 1] = redis.call('ZCARD', KEYS[2])
reply[#reply + 1] = generation
return reply
