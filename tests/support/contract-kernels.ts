/**
 * Kernels of convolutions and matrix products as lowering makes them, for tests and benchmarks: form, strides, epilogue.
 */

import type { DType } from '../../src/core/dtype.ts';
import { contractKernel } from '../../src/loop/contract.ts';
import * as e from '../../src/loop/expr.ts';
import type { AccessDim, Affine, Axis, Buffer, Contract, Expr, Kernel, Stmt } from '../../src/loop/ir.ts';

/** requantise is of bytes: bias and scale a channel, then round, clip, zero point. */
export type Epilogue = 'none' | 'bias' | 'bias-relu' | 'bias-residual-relu' | 'bias-clip' | 'requantise';
/** Operands of bytes, summed in i32; absent: all is f32. */
export type ByteOperand = 'i8' | 'u8';

export interface ConvSpec {
  readonly batch?: number;
  readonly size: readonly [number, number];
  readonly ic: number;
  readonly oc: number;
  readonly kernel: readonly [number, number];
  /** Of both dims, or of each. */
  readonly stride?: number | readonly [number, number];
  readonly pad?: number | readonly [number, number];
  readonly dilation?: number;
  readonly group?: number;
  readonly layout?: 'nhwc' | 'nchw';
  /** Layout of the output where it differs. */
  readonly outLayout?: 'nhwc' | 'nchw';
  readonly epilogue?: Epilogue;
  /** The first operand's bytes; weights are i8. */
  readonly bytes?: ByteOperand;
}

type Role = 'batch' | 'm' | 'n' | 'k';
const sum = (constant: number, ...terms: (readonly [Axis, number])[]): Affine => ({
  terms: terms.filter(([, coef]) => coef !== 0).map(([a, coef]) => ({ axis: a.name, coef })),
  constant,
});
const exprOf = (a: Affine): Expr =>
  a.terms.reduce((x, t) => e.add(x, e.mul(e.axis(t.axis), e.index(t.coef))), e.index(a.constant));

const along = (x: number | readonly [number, number]): readonly [number, number] =>
  typeof x === 'number' ? [x, x] : x;

const strides = (
  layout: 'nhwc' | 'nchw',
  [c, h, w]: readonly number[],
): { n: number; c: number; h: number; w: number } =>
  layout === 'nhwc' ? { n: h * w * c, h: w * c, w: c, c: 1 } : { n: c * h * w, c: h * w, h: w, w: 1 };

export const outputSize = (s: ConvSpec): [number, number] => {
  const at = (i: 0 | 1) =>
    Math.floor(
      (s.size[i] + 2 * along(s.pad ?? 0)[i] - (s.dilation ?? 1) * (s.kernel[i] - 1) - 1) / along(s.stride ?? 1)[i],
    ) + 1;
  return [at(0), at(1)];
};

export function convKernel(spec: ConvSpec): Kernel {
  const { batch = 1, ic, oc, dilation = 1, group = 1, layout = 'nhwc' } = spec;
  const [stride, pad] = [along(spec.stride ?? 1), along(spec.pad ?? 0)];
  const [h, w] = spec.size;
  const [oh, ow] = outputSize(spec);
  const [icg, ocg] = [ic / group, oc / group];
  const axis = (name: string, extent: number) => ({ name, extent });
  const [n, y, x] = [axis('n', batch), axis('oh', oh), axis('ow', ow)];
  const [g, o] = [axis('g', group), axis('oc', ocg)];
  const [kh, kw, c] = [axis('kh', spec.kernel[0]), axis('kw', spec.kernel[1]), axis('ic', icg)];
  const inStride = strides(layout, [ic, h, w]);
  const outStride = strides(spec.outLayout ?? layout, [oc, oh, ow]);
  const dim = (at: Affine, extent: number, s: number, padded = false): AccessDim => ({ at, extent, stride: s, padded });
  const out = sum(0, [n, outStride.n], [y, outStride.h], [x, outStride.w], [g, ocg * outStride.c], [o, outStride.c]);
  const channel = sum(0, [g, ocg], [o, 1]);
  const roles: readonly (readonly [Axis, Role])[] =
    (spec.outLayout ?? layout) === 'nhwc'
      ? [
          [n, 'm'],
          [y, 'm'],
          [x, 'm'],
          [g, 'batch'],
          [o, 'n'],
        ]
      : [
          [n, 'm'],
          [g, 'batch'],
          [o, 'n'],
          [y, 'm'],
          [x, 'm'],
        ];
  const form: Contract = {
    kind: 'contract',
    axes: [...roles, [kh, 'k'] as const, [kw, 'k'] as const, [c, 'k'] as const].map(([a, role]) => ({ ...a, role })),
    a: {
      buffer: 'x',
      dims: [
        dim(sum(0, [n, 1]), batch, inStride.n),
        dim(sum(0, [g, icg], [c, 1]), ic, inStride.c),
        dim(sum(-pad[0], [y, stride[0]], [kh, dilation]), h, inStride.h, pad[0] > 0),
        dim(sum(-pad[1], [x, stride[1]], [kw, dilation]), w, inStride.w, pad[1] > 0),
      ],
    },
    b: {
      buffer: 'w',
      dims: [
        dim(channel, oc, icg * kh.extent * kw.extent),
        dim(sum(0, [c, 1]), icg, kh.extent * kw.extent),
        dim(sum(0, [kh, 1]), kh.extent, kw.extent),
        dim(sum(0, [kw, 1]), kw.extent, 1),
      ],
    },
    acc: spec.bytes ? 'i32' : 'f32',
    epilogue: epilogueOf(spec, exprOf(channel), exprOf(out)),
  };
  const elements = batch * oc * oh * ow;
  return contractKernel(
    `conv_${oh}x${ow}x${oc}x${icg}x${kh.extent}x${kw.extent}`,
    [
      buffer('x', batch * ic * h * w, spec.bytes),
      buffer('w', oc * icg * kh.extent * kw.extent, spec.bytes && 'i8'),
      ...epilogueBuffers(spec, oc, elements),
    ],
    form,
  );
}

const buffer = (name: string, elements: number, dtype: DType = 'f32', role: Buffer['role'] = 'in'): Buffer => ({
  name,
  dtype,
  elements,
  role,
});

type EpilogueSpec = Pick<ConvSpec, 'epilogue' | 'bytes'>;

function epilogueBuffers({ epilogue = 'none', bytes }: EpilogueSpec, channels: number, elements: number): Buffer[] {
  return [
    ...(epilogue === 'none' ? [] : [buffer('bias', channels, bytes ? 'i32' : 'f32')]),
    ...(epilogue === 'requantise' ? [buffer('scale', channels)] : []),
    ...(epilogue === 'bias-residual-relu' ? [buffer('res', elements)] : []),
    buffer('y', elements, epilogue === 'requantise' ? 'u8' : bytes ? 'i32' : 'f32', 'out'),
  ];
}

const ZERO_POINT = 3;

function epilogueOf({ epilogue: kind = 'none', bytes }: EpilogueSpec, channel: Expr, out: Expr): Stmt[] {
  const zero = e.constant('f32', 0);
  const acc = bytes ? 'i32' : 'f32';
  let value: Expr = e.local('acc', acc);
  if (kind !== 'none') value = e.add(value, e.load('bias', acc, channel));
  if (kind === 'requantise') {
    const c = (x: number): Expr => e.constant('f32', x - ZERO_POINT);
    const scaled = e.mul(e.cast('f32', value), e.load('scale', 'f32', channel));
    const rounded = e.unary('round', e.min(e.max(scaled, c(0)), c(255)));
    value = e.cast('u8', e.add(e.cast('i32', rounded), e.index(ZERO_POINT)));
  }
  if (kind === 'bias-residual-relu') value = e.add(value, e.load('res', 'f32', out));
  if (kind === 'bias-relu' || kind === 'bias-residual-relu') value = e.max(value, zero);
  if (kind === 'bias-clip') value = e.min(e.max(value, zero), e.constant('f32', 0.5));
  return [{ kind: 'store', buffer: 'y', index: out, value }];
}

export interface GemmSpec {
  readonly batch?: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** a as [k][m], b as [n][k]. */
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly epilogue?: Epilogue;
  readonly bytes?: ByteOperand;
}

export function gemmKernel(spec: GemmSpec): Kernel {
  const { batch = 1, m, n, k } = spec;
  const [gb, gm, gn, gk] = [
    { name: 'b', extent: batch },
    { name: 'i', extent: m },
    { name: 'j', extent: n },
    { name: 'k', extent: k },
  ];
  const dim = (a: Axis, stride: number): AccessDim => ({ at: sum(0, [a, 1]), extent: a.extent, stride, padded: false });
  const out = sum(0, [gb, m * n], [gm, n], [gn, 1]);
  const form: Contract = {
    kind: 'contract',
    axes: [
      { ...gb, role: 'batch' },
      { ...gm, role: 'm' },
      { ...gn, role: 'n' },
      { ...gk, role: 'k' },
    ],
    a: { buffer: 'x', dims: [dim(gb, m * k), dim(gm, spec.transA ? 1 : k), dim(gk, spec.transA ? m : 1)] },
    b: { buffer: 'w', dims: [dim(gb, n * k), dim(gk, spec.transB ? 1 : n), dim(gn, spec.transB ? k : 1)] },
    acc: spec.bytes ? 'i32' : 'f32',
    epilogue: epilogueOf(spec, e.axis('j'), exprOf(out)),
  };
  return contractKernel(
    `gemm_${batch}x${m}x${n}x${k}`,
    [
      buffer('x', batch * m * k, spec.bytes),
      buffer('w', batch * n * k, spec.bytes && 'i8'),
      ...epilogueBuffers(spec, n, batch * m * n),
    ],
    form,
  );
}
