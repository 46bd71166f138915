"""Draws docs/imports.svg: python docs/imports.py. Needs `.[test]` (grimp) and Graphviz's dot."""

import collections
import pathlib
import subprocess

import grimp

FLOORS = (
  'launch', 'claims pods', 'runs', 'codes experiments reports',
  'data models objectives probes training',
)  # fmt: skip

graph = grimp.build_graph(*' '.join(FLOORS).split(), cache_dir=None)
arrows = collections.Counter(
  (module.split('.')[0], imported.split('.')[0])
  for module in graph.modules
  for imported in graph.find_modules_directly_imported_by(module)
)
lines = ['digraph { ranksep=1; node [shape=box fontname=Helvetica]; edge [color="#666666"];']
lines += [f'{{rank=same; {"; ".join(floor.split())}}}' for floor in FLOORS]
lines += [
  f'{a} -> {b} [penwidth={0.5 + n / 10:.1f} tooltip="{n} imports"];'
  for (a, b), n in sorted(arrows.items())
  if a != b
]
out = pathlib.Path(__file__).with_name('imports.svg')
subprocess.run(['dot', '-Tsvg', f'-o{out}'], input='\n'.join([*lines, '}']), text=True, check=True)
