-- Adds job messages to the runway of one queue, each at most once.
--
-- KEYS[1]  {ns}:{queue}:runway    list    message ids "job_id.fence", oldest first; workers BLMPOP from it
--          {ns}:{queue}:suspects  list    the same, of jobs whose worker died; a worker process that has no such
--                                         job takes one of these before anything else
--          {ns}:{queue}:runway:{signature}, {ns}:{queue}:suspects:{signature}
--                                 list    the lanes of workers that know the same types, for jobs that not every
--                                         worker of the queue can run; these workers BLMPOP from both
-- KEYS[2]  {ns}:{queue}:messages  hash    message id -> when it was pushed, in ms of Redis's clock; an entry
--                                         lives from the push until the outcome of its attempt is recorded
-- KEYS[3]  {ns}:{queue}:gate      hash    limit  -> how long the runway may become
--                                         closed -> "1": only the dispatcher may push (backlog, pause)
-- KEYS[4]  {ns}:{queue}:ranges    hash    range -> when it was pushed, in ms of Redis's clock ("ranges"): the
--                                         ready jobs between two places in the order of the queue, which stand
--                                         in the list of the runway as one entry
-- Beside them, not for this script:
--          {ns}:{queue}:waiting   hash    worker id -> until when, in ms of Redis's clock, it may be blocked in
--                                         a fetch: then nobody else needs to hold what it has not begun
-- ARGV[1]  "submit"   from a client that just committed rows; refused while the gate is closed, and closes
--                     it when the runway is full, so that later rows do not overtake the backlog
--          "dispatch" from the dispatcher, which knows the rank of every row
--          "lane"     the same for the lane of workers that know the same: a message that stands on the lane of others,
--                     who can run it as well, and that these have not taken for a moment, is added here, too
--          "suspects" the same for that list, whatever the gate says
--          "front"    of rows that had started once: before all others, whatever the limit and the gate say
--          "return"   from a worker that gives back what it has not begun: these were next, so they go to the
--                     head, whatever the gate says; where the runway is full it closes the gate, and the
--                     dispatcher pushes the rest
--          "ranges"   from the dispatcher, ranges in place of message ids; as many as it gives
-- ARGV[2]  the runway's limit ("dispatch", "suspects"; the others read it from the gate)
-- ARGV[3]  "1" closes and "0" opens the gate, "" leaves it as it is ("dispatch"); "1": whatever the limit is,
--          somebody waits ("return")
-- ARGV[4]  a message that is still in the hash after this many ms is looked for in the list ("dispatch", "lane")
-- ARGV[5…] message ids, in order
--
-- Returns {how many were added, how many of them again because their push or their fetch was lost,
--          1 if this call closed the gate, how many of the given ids Redis knows now: the first so many}.
-- All keys of a queue share a hash tag, so they live in one slot of a cluster.

local runway, messages, gate = KEYS[1], KEYS[2], KEYS[3]
local mode = ARGV[1]
local dispatching = mode == "dispatch" or mode == "suspects" or mode == "lane"

local limit
if mode == "ranges" then
    local time = redis.call("TIME")
    local pushed = time[1] * 1000 + math.floor(time[2] / 1000)
    local added = 0
    redis.call("HSET", gate, "limit", ARGV[2], "closed", ARGV[3])
    for i = 5, #ARGV do
        if redis.call("HSETNX", KEYS[4], ARGV[i], pushed) == 1 then
            redis.call("RPUSH", runway, ARGV[i])
            added = added + 1
        end
    end
    return {added, 0, 0, #ARGV - 4}
elseif mode == "front" then
    for i = #ARGV, 5, -1 do
        local id = ARGV[i]
        local time = redis.call("TIME")
        local pushed = time[1] * 1000 + math.floor(time[2] / 1000)
        -- One that the dispatcher was quicker with moves to the front; one that was fetched is left alone.
        if redis.call("HSETNX", messages, id, pushed) == 1 or redis.call("LREM", runway, 1, id) == 1 then
            redis.call("LPUSH", runway, id)
        end
    end
    return {#ARGV - 4, 0, 0, #ARGV - 4}
elseif mode == "suspects" or mode == "lane" then
    limit = tonumber(ARGV[2])
elseif dispatching then
    limit = tonumber(ARGV[2])
    if ARGV[3] ~= "" then
        redis.call("HSET", gate, "limit", ARGV[2], "closed", ARGV[3])
    end
else
    local settings = redis.call("HMGET", gate, "limit", "closed")
    if settings[2] == "1" and mode == "submit" then
        return {0, 0, 0, 0}
    end
    limit = tonumber(settings[1] or ARGV[2])
end

local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length = redis.call("LLEN", runway)
local added, again, closed, known = 0, 0, 0, 0

if mode == "return" then
    local room = #ARGV - 4
    if ARGV[3] ~= "1" and length + room > limit then
        room = math.max(0, limit - length)
        redis.call("HSET", gate, "closed", "1")
        closed = 1
    end
    for i = 4 + room, 5, -1 do
        if redis.call("HSETNX", messages, ARGV[i], now) == 1 then
            redis.call("LPUSH", runway, ARGV[i])
            added = added + 1
        end
    end
    return {added, 0, closed, room}
end

-- The list is read once, and only when some message has been waiting for suspiciously long.
local listed = nil
local function is_listed(id)
    if not listed then
        listed = {}
        for _, entry in ipairs(redis.call("LRANGE", runway, 0, -1)) do
            listed[entry] = true
        end
    end
    return listed[id]
end

for i = 5, #ARGV do
    local id = ARGV[i]
    if length >= limit then
        if not dispatching then
            redis.call("HSET", gate, "closed", "1")
            closed = 1
        end
        break
    end
    known = known + 1
    if redis.call("HSETNX", messages, id, now) == 1 then
        redis.call("RPUSH", runway, id)
        length = length + 1
        added = added + 1
    elseif dispatching then
        local pushed = tonumber(redis.call("HGET", messages, id))
        if not pushed or now - pushed >= tonumber(ARGV[4]) then
            local listed_here = is_listed(id)
            -- Standing on one lane must not make it look new to the others.
            if not (mode == "lane" and listed_here) then
                redis.call("HSET", messages, id, now)
            end
            if not listed_here then
                redis.call("RPUSH", runway, id)
                length = length + 1
                added = added + 1
                again = again + 1
            end
        end
    end
end

return {added, again, closed, known}
