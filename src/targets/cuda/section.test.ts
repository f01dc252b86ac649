/** Entries as sections: what of the launch comes from elsewhere, what stays as it was, and what is refused. */
import { expect, test } from 'vitest';
import type { PtxEntry } from './ptx.ts';
import { type SectionSite, sectionOf } from './section.ts';

const SITE: SectionSite = {
  prefix: 's3_',
  threads: 64,
  end: '$end',
  place: { x: '%tile_x', y: '%tile_y', width: '%width' },
  record: '%record',
  argumentsAt: 32,
  wait: '  // waits\n  bar.sync 1, 64;',
};
const HEAD = `.global .align 16 .b32 k_table[2] = {1, 2};

.visible .entry k(.param .u64 k_x, .param .u32 k_n)
.maxntid 64, 1, 1
{
  .reg .pred %p1;
  .reg .b32 %r<9>;
  .reg .b64 %rd<3>, %d0;
  .shared .align 16 .b8 k_shared0[64];
`;
const BODY = [
  'ld.param.u64 %rd0, [k_x];',
  'ld.param.u32 %r0, [k_n];',
  'mov.u32 %r1, %ctaid.x;',
  'mov.u32 %r2, %ctaid.y;',
  'mov.u32 %r3, %nctaid.x;',
  'mov.u32 %r4, %tid.x;',
  'mov.u32 %r5, k_shared0;',
  'griddepcontrol.wait;',
  'griddepcontrol.launch_dependents;',
  'setp.ge.u32 %p1, %r4, %r0;',
  '@%p1 ret;',
  'bar.sync 0;',
  'ld.global.nc.v2.u32 {%r6, %r7}, [%rd0+8];',
  'st.global.u32 [%rd0], %r7;',
  'ret;',
];
const entry = (lines: readonly string[]): PtxEntry => ({
  name: 'k',
  exact: false,
  dynamicShared: false,
  text: () => `${HEAD}${lines.map((line) => `  ${line}\n`).join('')}}`,
});

test('what the launch told comes from the program around', () => {
  expect(sectionOf(entry(BODY), SITE)).toEqual({
    registers: ['  .reg .pred %s3_p1;', '  .reg .b32 %s3_r<9>;', '  .reg .b64 %s3_rd<3>, %s3_d0;'],
    shared: ['  .shared .align 16 .b8 k_shared0[64];'],
    tables: ['.global .align 16 .b32 k_table[2] = {1, 2};'],
    body: [
      'ld.shared.u64 %s3_rd0, [%record+32];',
      'ld.shared.u32 %s3_r0, [%record+40];',
      'mov.u32 %s3_r1, %tile_x;',
      'mov.u32 %s3_r2, %tile_y;',
      'mov.u32 %s3_r3, %width;',
      'mov.u32 %s3_r4, %tid.x;',
      'mov.u32 %s3_r5, k_shared0;',
      '// waits\n  bar.sync 1, 64;',
      'setp.ge.u32 %s3_p1, %s3_r4, %s3_r0;',
      '@%s3_p1 bra $end;',
      'bar.sync 1, 64;',
      'ld.global.v2.u32 {%s3_r6, %s3_r7}, [%s3_rd0+8];',
      'st.global.u32 [%s3_rd0], %s3_r7;',
      'bra $end;',
      'bra $end;',
    ]
      .map((line) => `  ${line}`)
      .join('\n'),
  });
});

test.each([
  ['mov.u32 %r1, %ctaid.z;', /cannot use %ctaid\.z/],
  ['mov.u32 %r1, %nctaid.y;', /cannot use %nctaid\.y/],
  ['mov.u32 %r1, %cluster_ctarank;', /cannot use %cluster_ctarank/],
  ['mov.u32 %r1, %ntid.x;', /cannot use %ntid\.x/],
  ['bar.sync 2, 64;', /cannot do this: bar\.sync 2, 64/],
  ['exit;', /cannot do this: exit/],
  ['griddepcontrol.wait;', /waits 2 times/],
])('a section cannot have %s', (line, message) => {
  expect(() => sectionOf(entry([line, ...BODY]), SITE)).toThrow(message);
});

test('nor does it read without waiting', () => {
  expect(() => sectionOf(entry(BODY.filter((line) => !line.startsWith('griddep'))), SITE)).toThrow(/waits 0 times/);
});
