"""Lua that reads one part of the graph for some years only. EVAL_RO with one key; all other keys that
are named have its tag."""

from __future__ import annotations

# wanted(text of a year): whether it is in one of the ranges, which stand in ARGV from FIRST on, low and
# high in turn. Remembered: a thousand edges have the same few years.
_WANTED = """
local known = {}
local function wanted(text)
  local found = known[text]
  if found == nil then
    local year = tonumber(text)
    found = false
    for i = FIRST, #ARGV, 2 do
      if year and year >= tonumber(ARGV[i]) and year <= tonumber(ARGV[i + 1]) then found = true end
    end
    known[text] = found
  end
  return found
end
"""

# KEYS[1] the concept's links; ARGV: prefix of years keys, the concept, neighbours to look at, ranges.
# Ids are compared byte by byte: Lua's own < follows the server's locale.
NEIGHBOURS_OF_YEARS = (
    _WANTED.replace("FIRST", "4")
    + """
local prefix, concept = ARGV[1], ARGV[2]
local function before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local found = {}
for _, neighbour in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[3] - 1)) do
  local pair = neighbour .. ':' .. concept
  if before(concept, neighbour) then pair = concept .. ':' .. neighbour end
  local years = redis.call('HGETALL', prefix .. pair)
  local rank = 0
  for i = 1, #years, 2 do
    if wanted(years[i]) then rank = rank + years[i + 1] end
  end
  if rank > 0 then
    found[#found + 1] = neighbour
    found[#found + 1] = rank
  end
end
return found
"""
)

# KEYS[1] the edge; ARGV: carriers asked for, carriers to look at, ranges.
CARRIERS_OF_YEARS = (
    _WANTED.replace("FIRST", "3")
    + """
local asked, limit, step = tonumber(ARGV[1]), tonumber(ARGV[2]), 500
local found = {}
for start = 0, limit - 1, step do
  local some = redis.call('ZREVRANGE', KEYS[1], start, math.min(start + step, limit) - 1, 'WITHSCORES')
  for i = 1, #some, 2 do
    local year = string.match(some[i], ' (%d+)$')
    if year and wanted(year) then
      found[#found + 1] = some[i]
      found[#found + 1] = some[i + 1]
      if #found >= 2 * asked then return found end
    end
  end
  if #some < 2 * step then break end
end
return found
"""
)
