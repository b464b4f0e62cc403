-- One decision over all charges of a call, on this server's time: what arbprov.limits.stores.memory does in
-- one process. The figures of a bucket are the same as there: doubles, one after the other.
--
-- KEYS: the generation, the peers, and then for each charge its state and its gate.
-- ARGV: what to do, the generation that the caller knows, the caller's name, two numbers that belong
--       to what is to be done; and then for each charge its kind, three figures, its cost, and
--       whether it is a shadow limit's.
-- Returns "ok" and what was asked for; "lost" if the data are not those that the caller knows; or
-- "renew" if a quota's end has passed, so that the caller has to tell the next one.

local OPERATION, KNOWN, CALLER = ARGV[1], ARGV[2], ARGV[3]
local FIRST, SECOND = tonumber(ARGV[4]), tonumber(ARGV[5])
local HEAD, PER_CHARGE = 5, 6
local STEPS, ROUNDING = 1000, 1e-6
-- Seconds after which a gate that nobody has tried again is forgotten.
local REMEMBERED = 3600
local INFINITY = math.huge

local function text(number)
  return string.format('%.17g', number)
end

-- A state is a string of doubles; places are counted from 0, as in Python.

local function size(state)
  return #state / 8
end

local function get(state, place)
  return (struct.unpack('<d', state, place * 8 + 1))
end

local function pack(...)
  return struct.pack('<' .. string.rep('d', select('#', ...)), ...)
end

-- Puts `new` where the doubles from `place` to before `until_place` were.
local function splice(state, place, until_place, new)
  return state:sub(1, place * 8) .. new .. state:sub(until_place * 8 + 1)
end

local function set(state, place, number)
  return splice(state, place, place + 1, pack(number))
end

-- Returns the least wait after which a clock at `now` shows `moment` or later.
local function wait_until(now, moment)
  local wait = moment - now
  while now + wait < moment do
    local _, exponent = math.frexp(wait)
    wait = wait + math.ldexp(1, exponent - 53)
  end
  return wait
end

-- The meters: look returns the wait, what is left, and the state without what is over.

local window, bucket, quota = {}, {}, {}
local METERS = { window = window, bucket = bucket, quota = quota }

function window.fresh()
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

function window.look(charge, state, now, cost)
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
  local wait = place > 1 and wait_until(now, get(state, place - 2)) or 0
  return wait + later * period, math.max(0, left), state
end

function window.add(charge, state, now, cost)
  state = window.insert(state, window.ending(charge, now), cost)
  if size(state) > 1 + 2 * (STEPS + 1) then
    -- Floats had one step too many: the oldest two leave as one.
    state = splice(set(state, 4, get(state, 4) + get(state, 2)), 1, 3, '')
  end
  return state
end

function window.refund(charge, state, charged_at, cost)
  local moment = window.ending(charge, charged_at)
  for place = size(state) - 2, 1, -2 do
    if get(state, place) == moment then
      local taken = math.min(cost, get(state, place + 1))
      local rest = get(state, place + 1) - taken
      state = set(state, 0, get(state, 0) - taken)
      if rest == 0 then
        return splice(state, place, place + 2, '')
      end
      return set(state, place + 1, rest)
    end
  end
  return state
end

-- Removes up to `most` from the last entries before `place`.
function window.take(state, place, most)
  local lacking = most
  while place > 1 and lacking > 0 do
    local taken = math.min(lacking, get(state, place - 1))
    lacking = lacking - taken
    state = set(state, place - 1, get(state, place - 1) - taken)
    place = place - 2
    if get(state, place + 1) == 0 then
      state = splice(state, place, place + 2, '')
    end
  end
  return set(state, 0, get(state, 0) - (most - lacking))
end

function window.report(charge, state, now, used, reset_in)
  local amount, period = charge.first, charge.second
  state = window.expire(state, now)
  local moment = math.ceil((now + math.min(reset_in, period)) * STEPS / period) * period / STEPS
  local place, missing = size(state), math.min(used, amount)
  while place > 1 and get(state, place - 2) >= moment do
    place = place - 2
    missing = missing - get(state, place + 1)
  end
  if missing <= 0 then
    return state
  end
  return window.insert(window.take(state, place, missing), moment, missing)
end

function window.merge(charge, state, now, seconds, cost)
  local step = math.ceil((now + seconds) * STEPS / charge.second)
  return window.insert(state, step * charge.second / STEPS, cost)
end

function window.lasts_until(state)
  return size(state) > 1 and get(state, size(state) - 2) or -INFINITY
end

function bucket.fresh()
  return pack(-INFINITY, -INFINITY)
end

function bucket.look(charge, state, now, cost)
  local capacity, interval = charge.first, charge.second
  local full_at = math.max(get(state, 0), now)
  local ready = full_at - (capacity - cost) * interval
  local lacking = math.ceil((full_at - now) / interval - ROUNDING)
  local is_ready = ready - now <= interval * ROUNDING
  return is_ready and 0 or wait_until(now, ready), math.max(0, capacity - lacking), state
end

function bucket.add(charge, state, now, cost)
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

function quota.fresh()
  return pack(0, -INFINITY, -INFINITY)
end

function quota.renew(charge, state, now)
  if now >= get(state, 2) then
    return pack(0, now, charge.second)
  end
  return state
end

function quota.look(charge, state, now, cost)
  local amount = charge.first
  state = quota.renew(charge, state, now)
  local left = amount - get(state, 0)
  if cost <= left then
    return 0, left, state
  end
  local later = math.max(0, math.ceil((cost - amount) / amount))
  return wait_until(now, get(state, 2)) + later * charge.third, math.max(0, left), state
end

function quota.add(charge, state, now, cost)
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
  return quota.add(charge, state, now, cost)
end

function quota.lasts_until(state)
  return get(state, 0) > 0 and get(state, 2) or -INFINITY
end

-- The buckets and their gates.

local function load(charge)
  return redis.call('GET', charge.state_key) or charge.meter.fresh()
end

local function save(charge, state, now)
  local rest = math.ceil((charge.meter.lasts_until(state) - now) * 1000)
  if rest > 0 then
    redis.call('SET', charge.state_key, state, 'PX', text(rest))
  else
    redis.call('DEL', charge.state_key)
  end
end

-- A gate is when it opens, the lease of the first call through, and when that call's lease ends.
local function gate_wait(gate, now)
  if not gate then
    return 0
  end
  local opens = math.max(get(gate, 0), get(gate, 2))
  return opens > now and wait_until(now, opens) or 0
end

local function load_gate(charge, now)
  local gate = redis.call('GET', charge.gate_key)
  return gate and get(gate, 0) + REMEMBERED > now and gate or nil
end

local function save_gate(charge, gate, now)
  local rest = math.ceil((get(gate, 0) + REMEMBERED - now) * 1000)
  redis.call('SET', charge.gate_key, gate, 'PX', text(math.max(1, rest)))
end

-- What can be done.

local function look(charges, now)
  local refused = false
  for _, charge in ipairs(charges) do
    local gated = gate_wait(load_gate(charge, now), now)
    charge.wait, charge.left, charge.state =
      charge.meter.look(charge, load(charge), now, charge.cost)
    charge.gated = gated > charge.wait
    charge.wait = math.max(gated, charge.wait)
    refused = refused or (charge.wait > 0 and not charge.shadow)
  end
  return refused
end

local function told(now, charged, probing, charges)
  local reply = { 'ok', text(now), charged and 1 or 0, probing and 1 or 0 }
  for _, charge in ipairs(charges) do
    reply[#reply + 1] = text(charge.wait)
    reply[#reply + 1] = text(charge.left)
    reply[#reply + 1] = charge.gated and 1 or 0
  end
  return reply
end

local operations = {}

function operations.peek(charges, now)
  look(charges, now)
  return told(now, false, false, charges)
end

function operations.acquire(charges, now)
  if look(charges, now) then
    return told(now, false, false, charges)
  end
  local probing = false
  for _, charge in ipairs(charges) do
    if charge.wait == 0 then
      save(charge, charge.meter.add(charge, charge.state, now, charge.cost), now)
      charge.left = charge.left - charge.cost
      local gate = load_gate(charge, now)
      if gate then
        probing = true
        save_gate(charge, set(gate, 2, now + get(gate, 1)), now)
      end
    end
  end
  return told(now, true, probing, charges)
end

function operations.refund(charges, now)
  for _, charge in ipairs(charges) do
    local state = redis.call('GET', charge.state_key)
    if state then
      save(charge, charge.meter.refund(charge, state, FIRST, charge.cost), now)
    end
  end
  return { 'ok', text(now) }
end

function operations.report(charges, now)
  for _, charge in ipairs(charges) do
    save(charge, charge.meter.report(charge, load(charge), now, FIRST, SECOND), now)
  end
  return { 'ok', text(now) }
end

-- Adds what was charged elsewhere: for how many seconds it counts yet, and how much it is.
function operations.merge(charges, now)
  local charge = charges[1]
  local state = load(charge)
  for place = HEAD + PER_CHARGE + 1, #ARGV, 2 do
    state = charge.meter.merge(charge, state, now, tonumber(ARGV[place]), tonumber(ARGV[place + 1]))
  end
  save(charge, state, now)
  return { 'ok', text(now) }
end

function operations.close_gate(charges, now)
  for _, charge in ipairs(charges) do
    local gate = load_gate(charge, now) or pack(-INFINITY, SECOND, -INFINITY)
    save_gate(charge, pack(math.max(get(gate, 0), now + FIRST), SECOND, -INFINITY), now)
  end
  return { 'ok', text(now) }
end

function operations.pass_gate(charges, now)
  for _, charge in ipairs(charges) do
    local gate = load_gate(charge, now)
    if gate then
      save_gate(charge, set(gate, 2, -INFINITY), now)
    end
  end
  return { 'ok', text(now) }
end

function operations.reopen_gate(charges, now)
  for _, charge in ipairs(charges) do
    local gate = load_gate(charge, now)
    if gate and get(gate, 0) <= now then
      redis.call('DEL', charge.gate_key)
    end
  end
  return { 'ok', text(now) }
end

-- Notes that the caller is alive, and forgets who was not for long.
function operations.beat(charges, now)
  redis.call('ZADD', KEYS[2], text(now), CALLER)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. text(now - FIRST))
  return { 'ok', text(now) }
end

local function charges_of(now)
  local charges = {}
  for number = 1, (#KEYS - 2) / 2 do
    local place = HEAD + (number - 1) * PER_CHARGE
    charges[number] = {
      state_key = KEYS[number * 2 + 1],
      gate_key = KEYS[number * 2 + 2],
      kind = ARGV[place + 1],
      meter = METERS[ARGV[place + 1]],
      first = tonumber(ARGV[place + 2]),
      second = tonumber(ARGV[place + 3]),
      third = tonumber(ARGV[place + 4]),
      cost = tonumber(ARGV[place + 5]),
      shadow = ARGV[place + 6] == '1',
    }
  end
  return charges
end

local function server_time()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local now = server_time()
local generation = redis.call('GET', KEYS[1])
if not generation then
  generation = CALLER .. '@' .. text(now)
  redis.call('SET', KEYS[1], generation)
end
if KNOWN ~= '' and KNOWN ~= generation then
  return { 'lost', text(now), generation }
end
local charges = charges_of(now)
for _, charge in ipairs(charges) do
  if charge.kind == 'quota' and now >= charge.second then
    return { 'renew', text(now), generation }
  end
end
local reply = operations[OPERATION](charges, now)
-- How many share the limits; each answer tells, since the next may not come.
reply[#reply + 1] = redis.call('ZCARD', KEYS[2])
reply[#reply + 1] = generation
return reply
