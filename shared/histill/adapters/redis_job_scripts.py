"""What the index of jobs does in one atomic step each, as Lua for the server."""

from __future__ import annotations

# A Redis that was started again may lack its last seconds: what it marked counts no more.
_RUN = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
"""
IS_BUILT = f"{_RUN} return redis.call('GET', KEYS[1]) == run and 1 or 0"
BEGIN = f"{_RUN} return redis.call('SET', KEYS[1], run, 'EX', ARGV[1])"
MARK = f"""{_RUN}
if redis.call('GET', KEYS[2]) ~= run then return 0 end
redis.call('SET', KEYS[1], run)
return 1
"""
REBIND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
UNLOCK_STUCK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
CLAIM = f"""{_RUN}
if redis.call('GET', KEYS[1]) ~= run then return false end
if ARGV[1] == '' or redis.call('SET', KEYS[2], ARGV[2], 'NX', 'EX', ARGV[3]) then return ARGV[2] end
return redis.call('GET', KEYS[2])
"""
# Keys: records, revisions, unclosed, all of the project, names of pools, endings that nobody
# counted yet, then one set a state of the project, then one set an open state of the kind, then
# one an open state of the pool. Arguments: id, revision, record, place, closed or open (0) or
# ended (1), which of the sets of states and of open states it is in, the key that says that it
# was deleted, the pool, since when it is in this state, and the field of its ending. Returns 1;
# 0 when a newer one is there; the stored text when it is another one of the same revision.
SAVE = """
if redis.call('EXISTS', ARGV[9]) == 1 then return 0 end
local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '-1')
if before > tonumber(ARGV[2]) then return 0 end
local kept = before == tonumber(ARGV[2]) and redis.call('HGET', KEYS[1], ARGV[1])
if kept and kept ~= ARGV[3] then return kept end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[4], 0, ARGV[4])
redis.call(ARGV[5] == '1' and 'SADD' or 'SREM', KEYS[3], ARGV[1])
local states, open, was_open = tonumber(ARGV[6]), tonumber(ARGV[8]), 0
for i = 1, states do
  if i == tonumber(ARGV[7]) then redis.call('ZADD', KEYS[6 + i], 0, ARGV[4])
  else redis.call('ZREM', KEYS[6 + i], ARGV[4]) end
end
for i = 1, 2 do
  local kind, pool = KEYS[6 + states + i], KEYS[8 + states + i]
  if i == open then
    redis.call('SADD', kind, ARGV[1])
    -- A change of one that waits is no new wait; one that runs may have begun anew in one step.
    if i == 1 then redis.call('ZADD', pool, 'NX', ARGV[11], ARGV[1])
    else redis.call('ZADD', pool, ARGV[11], ARGV[1]) end
    redis.call('SADD', KEYS[5], ARGV[10])
  else
    was_open = was_open + redis.call('SREM', kind, ARGV[1])
    redis.call('ZREM', pool, ARGV[1])
  end
end
if open == 0 and was_open > 0 then redis.call('HINCRBY', KEYS[6], ARGV[12], 1) end
return 1
"""
# Keys: a set, and those of which it may hold members.
DROP_STRAYS = """
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local known = false
  for i = 2, #KEYS do known = known or redis.call('SISMEMBER', KEYS[i], id) == 1 end
  if not known then gone = gone + redis.call('ZREM', KEYS[1], id) end
end
return gone
"""
# Keys: endings that nobody counted yet, where those go that are now taken, and those that were
# taken before that. Asked again, because the answer was lost, it tells the same ones.
TAKE = """
redis.call('DEL', KEYS[3])
if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
NEXT_VERSION = """
local last = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]) - 1)
redis.call('SET', KEYS[1], last + 1)
return last + 1
"""
