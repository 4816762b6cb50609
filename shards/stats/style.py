"""How the page of figures looks, on light and on dark screens."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1b1f24; --soft: #5f6772; --rule: #e3e6ea; --card: #f6f7f9;
  --a: #3b6fd4; --b: #e8a33d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ad; --rule: #2b3138; --card: #1c2126;
    --a: #6f9bf0; --b: #c98a2c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem;
  background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0 .75rem; color: var(--soft); }
dl { display: grid; gap: .6rem; margin: 0; }
dl { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
dl div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 500; font-size: .8rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
td.bar { width: 40%; padding-right: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; font-family: inherit; }
svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .grid { stroke: var(--rule); }
svg .a, .key.a { fill: var(--a); background: var(--a); }
svg .b, .key.b { fill: var(--b); background: var(--b); }
svg.share { height: .6rem; }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px; }
.whole { white-space: nowrap; margin-right: .8em; }
.figures { display: grid; gap: 1.5rem; }
.figures { grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
.figures p { font-size: .8rem; margin: .15rem 0; }
"""
