"""Collectives read from a program's text, on a small program of which every byte is known."""

import pytest

from pods import hlo

# A loop of 3 by its counter and one of 4 by the compiler's word; a fused reduce-scatter.
PROGRAM = """
HloModule made_up

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %added = f32[] add(%a, %b)
}

%all-reduce-scatter.1 (x: f32[8,16]) -> f32[2,16] {
  %x = f32[8,16]{1,0} parameter(0)
  %summed = f32[8,16]{1,0} all-reduce(%x), channel_id=5, replica_groups=[2,4]<=[8], to_apply=%sum
  ROOT %part = f32[2,16]{1,0} dynamic-slice(%summed, %zero, %zero), dynamic_slice_sizes={2,16}
}

%carry.1 (y: bf16[4]) -> bf16[32] {
  %y = bf16[4]{0} parameter(0)
  ROOT %g1 = bf16[32]{0:T(8,128)(2,1)} all-gather(%y), channel_id=7, replica_groups=[1,8]<=[8]
}

%carry.2 (y: bf16[4]) -> bf16[32] {
  %y = bf16[4]{0} parameter(0)
  ROOT %g2 = bf16[32]{0:T(8,128)(2,1)} all-gather(%y), channel_id=7, replica_groups=[1,8]<=[8]
}

%body.1 (s: (s32[], bf16[4])) -> (s32[], bf16[4]) {
  %s = (s32[], bf16[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  %v = bf16[4]{0} get-tuple-element(%s), index=1
  %start = bf16[32]{0} fusion(%v), kind=kCustom, calls=%carry.1
  %done = bf16[32]{0} fusion(%v), kind=kCustom, calls=%carry.2
  %cps = (bf16[4]{0}, bf16[4]{0}) collective-permute-start(%v), source_target_pairs={{0,1},{1,0}}
  %cpd = bf16[4]{0} collective-permute-done(%cps)
  ROOT %out = (s32[], bf16[4]{0}) tuple(%next, %cpd)
}

%condition.1 (s: (s32[], bf16[4])) -> pred[] {
  %s = (s32[], bf16[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %limit = s32[]{:T(128)} constant(6)
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%body.2 (t: f32[10]) -> f32[10] {
  %t = f32[10]{0} parameter(0)
  ROOT %r = f32[10]{0} all-reduce(%t), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%sum
}

%condition.2 (t: f32[10]) -> pred[] {
  %t = f32[10]{0} parameter(0)
  ROOT %go = pred[] custom-call(%t), custom_call_target="Ask"
}

ENTRY %main (p: f32[8,16]) -> f32[] {
  %p = f32[8,16]{1,0} parameter(0)
  %rs = f32[2,16]{1,0} fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1
  %w1 = (s32[], bf16[4]{0}) while(%init), condition=%condition.1, body=%body.1
  %w2 = f32[10]{0} while(%q), condition=%condition.2, body=%body.2, KNOWN
  %ags = (f32[5]{0}, f32[40]{0}) all-gather-start(%five), replica_groups=[1,8]<=[8], dimensions={0}
  %agd = f32[40]{0} all-gather-done(%ags)
  %a2a = s32[8,2]{1,0} all-to-all(%m), replica_groups=mesh['a'=2,'b'=4] {'b'}, dimensions={0}
  ROOT %rs2 = f32[3]{0} reduce-scatter(%n), replica_groups=mesh['a'=2,'b'=4] {'a','b'}
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"4"}}'


def test_every_collective_is_counted_once_a_run():
  found = hlo.collectives(PROGRAM.replace('KNOWN', KNOWN), devices=8)
  counted = sorted((one.kind, one.bytes, one.times) for one in found)
  assert counted == [
    ('all-gather', 7 / 8 * 32 * 2, 3),  # 0, 2, 4 are below 6; carried along, yet once
    ('all-gather', 7 / 8 * 40 * 4, 1),
    ('all-reduce', 2 * 1 / 2 * 10 * 4, 4),
    ('all-to-all', 3 / 4 * 16 * 4, 1),
    ('collective-permute', 4 * 2, 3),
    ('reduce-scatter', 7 / 8 * 8 * 3 * 4, 1),
    ('reduce-scatter', 3 / 4 * 8 * 16 * 4, 1),
  ]
  assert hlo.by_kind(found) == {
    'all-gather': 3 * 56 + 140,
    'reduce-scatter': 84 + 384,
    'all-reduce': 160,
    'collective-permute': 24,
    'all-to-all': 48,
  }


def test_fused_collectives_of_one_channel_are_told_apart_by_their_chain():
  def gathered(*chains):
    before, *after = PROGRAM.replace('KNOWN', KNOWN).split('channel_id=7')
    text = before
    for chain, rest in zip(chains, after, strict=True):
      text += f'channel_id=1, frontend_attributes={{chain_id="{chain}"}}' + rest
    return hlo.by_kind(hlo.collectives(text, devices=8))['all-gather']

  assert gathered(0, 0) == 3 * 56 + 140 and gathered(0, 1) == 6 * 56 + 140


def test_a_loop_that_sends_and_can_not_be_counted_is_an_error():
  with pytest.raises(hlo.UnreadableProgram, match='condition.2 runs is not to be read'):
    hlo.collectives(PROGRAM.replace(', KNOWN', ''), devices=8)
