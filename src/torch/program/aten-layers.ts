/**
 * Layers with weights, pooling, normalisation and attention: as the modules give them, and as run_decompositions() leaves them.
 */
import type { Translation, TranslationTable } from './aten.ts';
import type { Call } from './call.ts';

/** One number stands for all spatial dims. */
const spatial = (c: Call, name: string, rank: number, absent: number): readonly number[] => {
  const given = c.numbers(name, []);
  if (given.length === rank) return given;
  return Array.from({ length: rank }, () => given[0] ?? absent);
};

interface ConvForm {
  readonly transposed: boolean;
}

function convolution(c: Call, { transposed }: ConvForm): string {
  const x = c.tensor('input');
  const weight = c.tensor('weight');
  const rank = c.rank(weight) - 2;
  if (c.rank(x) !== rank + 2) c.fail('an input without a batch is not translated');
  const padding = paddingOf(c, weight, rank);
  const attrs = {
    kernel_shape: c
      .type(weight)
      .shape.slice(2)
      .map((_, i) => c.staticDim(weight, i + 2)),
    strides: spatial(c, 'stride', rank, 1),
    dilations: spatial(c, 'dilation', rank, 1),
    pads: [...padding.begin, ...padding.end],
    group: c.number('groups', 1),
  };
  const bias = c.optionalTensor('bias');
  const inputs = bias === undefined ? [x, weight] : [x, weight, bias];
  if (!transposed) return c.node('Conv', inputs, attrs);
  return c.node('ConvTranspose', inputs, { ...attrs, output_padding: spatial(c, 'output_padding', rank, 0) });
}

function paddingOf(c: Call, weight: string, rank: number) {
  const mode = c.text('padding', '');
  if (mode === 'same') {
    // As much in all as keeps the size, the odd one behind.
    const total = spatial(c, 'dilation', rank, 1).map((d, i) => d * (c.staticDim(weight, i + 2) - 1));
    const begin = total.map((n) => Math.floor(n / 2));
    return { begin, end: total.map((n, i) => n - begin[i]) };
  }
  const begin = mode === 'valid' ? spatial(c, 'none', rank, 0) : spatial(c, 'padding', rank, 0);
  return { begin, end: begin };
}

const conv: Translation = (c) => convolution(c, { transposed: c.bool('transposed', false) });
const convTranspose: Translation = (c) => convolution(c, { transposed: true });

/** x · weightᵀ + bias over the last dim. */
function linear(c: Call): string {
  const x = c.tensor('input');
  const weight = c.tensor('weight');
  const bias = c.optionalTensor('bias');
  if (c.rank(x) === 2 && bias !== undefined) return c.node('Gemm', [x, weight, bias], { transB: true });
  const product = c.node('MatMul', [x, c.node('Transpose', [weight], { perm: [1, 0] })]);
  return bias === undefined ? product : c.node('Add', [product, bias]);
}

const product =
  (a: string, b: string): Translation =>
  (c) =>
    c.node('MatMul', [c.tensor(a), c.tensor(b)]);

/** beta · self + alpha · (mat1 · mat2) */
const plusProduct =
  (a: string, b: string): Translation =>
  (c) => {
    const { dtype } = c.outputType();
    const scaled = (value: string, factor: number): string =>
      factor === 1 ? value : c.node('Mul', [value, c.scalar(factor, dtype)]);
    const sum = scaled(c.node('MatMul', [c.tensor(a), c.tensor(b)]), c.number('alpha', 1));
    return c.node('Add', [sum, scaled(c.tensor('self'), c.number('beta', 1))]);
  };

/** A parameter of a norm, or what leaving it out means. */
const channelParam = (c: Call, name: string, channels: number, absent: number): string =>
  c.optionalTensor(name) ?? c.filled([channels], absent, c.outputType().dtype);

function batchNorm(c: Call): string {
  const x = c.tensor('input');
  if (c.bool('training', false) || c.bool('train', false)) c.fail('it is in training mode');
  const channels = c.staticDim(x, 1);
  const [mean, variance] = ['running_mean', 'running_var'].map((name) => c.tensor(name));
  const params = [channelParam(c, 'weight', channels, 1), channelParam(c, 'bias', channels, 0)];
  return c.node('BatchNormalization', [x, ...params, mean, variance], { epsilon: c.number('eps') });
}

/** Statistics of the batch itself: instance normalisation as PyTorch decomposes it, with all instances as channels of one. */
function batchStatistics(c: Call): string {
  const x = c.tensor('input');
  const rank = c.rank(x);
  const axes = c.ints(Array.from({ length: rank }, (_, i) => i).filter((axis) => axis !== 1));
  const centred = c.node('Sub', [x, c.node('ReduceMean', [x, axes])]);
  const { dtype } = c.outputType();
  const variance = c.node('ReduceMean', [c.node('Mul', [centred, centred]), axes]);
  const deviation = c.node('Sqrt', [c.node('Add', [variance, c.scalar(c.number('eps'), dtype)])]);
  const unit = c.node('Div', [centred, deviation]);
  return affineChannels(c, unit, rank);
}

/** unit · weight[c] + bias[c] along dim 1, where the norm has them. */
function affineChannels(c: Call, unit: string, rank: number): string {
  const along = (value: string): string =>
    c.node('Reshape', [value, c.ints([-1, ...new Array(Math.max(0, rank - 2)).fill(1)])]);
  const [weight, bias] = [c.optionalTensor('weight'), c.optionalTensor('bias')];
  const scaled = weight === undefined ? unit : c.node('Mul', [unit, along(weight)]);
  return bias === undefined ? scaled : c.node('Add', [scaled, along(bias)]);
}

function instanceNorm(c: Call): string {
  const x = c.tensor('input');
  if (!c.bool('use_input_stats', true)) return batchNorm(c);
  const channels = c.staticDim(x, 1);
  const params = [channelParam(c, 'weight', channels, 1), channelParam(c, 'bias', channels, 0)];
  return c.node('InstanceNormalization', [x, ...params], { epsilon: c.number('eps') });
}

function groupNorm(c: Call, groups: number): string {
  const x = c.tensor('input');
  const channels = c.staticDim(x, 1);
  const params = [channelParam(c, 'weight', channels, 1), channelParam(c, 'bias', channels, 0)];
  return c.node('GroupNormalization', [x, ...params], { epsilon: c.number('eps', 1e-5), num_groups: groups });
}

function layerNorm(c: Call): string {
  const x = c.tensor('input');
  const shape = c.numbers('normalized_shape', []);
  const weight = c.optionalTensor('weight') ?? c.filled(shape, 1, c.outputType().dtype);
  const bias = c.optionalTensor('bias');
  const attrs = { axis: -shape.length, epsilon: c.number('eps', 1e-5) };
  return c.node('LayerNormalization', bias === undefined ? [x, weight] : [x, weight, bias], attrs);
}

/** x / √(mean(x²) + eps) · weight over the last dims. */
function rmsNorm(c: Call): string {
  const x = c.tensor('input');
  const axes = c.ints(c.numbers('normalized_shape', []).map((_, i) => -1 - i));
  const { dtype } = c.outputType();
  const epsilon = c.number('eps', dtype === 'f64' ? 2 ** -52 : 2 ** -23);
  const squares = c.node('ReduceMean', [c.node('Mul', [x, x]), axes]);
  const unit = c.node('Div', [x, c.node('Sqrt', [c.node('Add', [squares, c.scalar(epsilon, dtype)])])]);
  const weight = c.optionalTensor('weight');
  return weight === undefined ? unit : c.node('Mul', [unit, weight]);
}

/** A pooling's window; an empty stride is the kernel. */
function window(c: Call, rank: number) {
  const kernel = spatial(c, 'kernel_size', rank, 1);
  const stride = c.numbers('stride', []).length === 0 ? kernel : spatial(c, 'stride', rank, 1);
  const padding = spatial(c, 'padding', rank, 0);
  return {
    kernel_shape: kernel,
    strides: stride,
    pads: [...padding, ...padding],
    ceil_mode: c.bool('ceil_mode', false),
  };
}

const maxPool =
  (rank: number): Translation =>
  (c) =>
    c.node('MaxPool', [c.tensor('self')], { ...window(c, rank), dilations: spatial(c, 'dilation', rank, 1) });

const avgPool =
  (rank: number): Translation =>
  (c) => {
    if (c.has('divisor_override')) c.fail('divisor_override is not translated');
    return c.node('AveragePool', [c.tensor('self')], {
      ...window(c, rank),
      count_include_pad: c.bool('count_include_pad', true),
    });
  };

/** To a size of 1, or to one that divides the input's: windows are then all alike. */
const adaptivePool =
  (op: 'Average' | 'Max', rank: number): Translation =>
  (c) => {
    const x = c.tensor('self');
    const sizes = spatial(c, 'output_size', rank, 1);
    if (sizes.every((size) => size === 1)) return c.node(`Global${op}Pool`, [x]);
    const kernel = sizes.map((size, i) => {
      const from = c.staticDim(x, i + 2);
      return from % size === 0 ? from / size : c.fail(`${from} elements are not pooled evenly into ${size}`);
    });
    return c.node(`${op}Pool`, [x], { kernel_shape: kernel, strides: kernel });
  };

const softmax =
  (op: 'Softmax' | 'LogSoftmax'): Translation =>
  (c) => {
    const x = c.cast(c.tensor('self'), c.outputType().dtype);
    return c.node(op, [x], { axis: c.axis('dim', c.rank(x)) });
  };

/** softmax(query · keyᵀ · scale + mask) · value */
function attention(c: Call): string {
  const [query, key, value] = ['query', 'key', 'value'].map((name) => c.tensor(name));
  if (c.number('dropout_p', 0) !== 0) c.fail('it drops out, so it is in training mode');
  if (c.bool('enable_gqa', false)) c.fail('enable_gqa is not translated');
  const { dtype, shape } = c.type(query);
  const width = c.staticDim(query, shape.length - 1);
  const perm = shape.map((_, i) => i);
  perm.push(...perm.splice(-2, 1));
  const scores = c.node('MatMul', [query, c.node('Transpose', [key], { perm })]);
  const scaled = c.node('Mul', [scores, c.scalar(c.number('scale', 1 / Math.sqrt(width)), dtype)]);
  return c.node('MatMul', [c.node('Softmax', [masked(c, scaled)], { axis: -1 }), value]);
}

function masked(c: Call, scores: string): string {
  const { dtype } = c.type(scores);
  const minusInfinity = c.scalar(Number.NEGATIVE_INFINITY, dtype);
  const mask = c.optionalTensor('attn_mask');
  if (mask !== undefined && c.type(mask).dtype !== 'bool') return c.node('Add', [scores, mask]);
  if (mask !== undefined) return c.node('Where', [mask, scores, minusInfinity]);
  if (!c.bool('is_causal', false)) return scores;
  const seen = c.node('Trilu', [c.filled(c.sizesOf(scores).slice(-2), 1, 'bool')], { upper: false });
  return c.node('Where', [seen, scores, minusInfinity]);
}

/** One slope a channel, or one for all. */
function prelu(c: Call): string {
  const x = c.tensor('self');
  const slope = c.tensor('weight');
  const lined =
    c.rank(slope) === 1 && c.rank(x) > 2
      ? c.node('Reshape', [slope, c.ints([-1, ...new Array(c.rank(x) - 2).fill(1)])])
      : slope;
  return c.node('PRelu', [x, lined]);
}

export const LAYERS: TranslationTable = {
  conv1d: conv,
  conv2d: conv,
  conv3d: conv,
  convolution: conv,
  _convolution: conv,
  conv_transpose1d: convTranspose,
  conv_transpose2d: convTranspose,
  conv_transpose3d: convTranspose,
  linear,
  matmul: product('self', 'other'),
  mm: product('self', 'mat2'),
  bmm: product('self', 'mat2'),
  addmm: plusProduct('mat1', 'mat2'),
  baddbmm: plusProduct('batch1', 'batch2'),
  einsum: (c) => c.node('Einsum', c.tensors('tensors'), { equation: c.text('equation', '') }),
  batch_norm: batchNorm,
  _native_batch_norm_legit_no_training: batchNorm,
  _native_batch_norm_legit: (c) => (c.has('running_mean') ? batchNorm(c) : batchStatistics(c)),
  native_batch_norm: batchNorm,
  instance_norm: instanceNorm,
  group_norm: (c) => groupNorm(c, c.number('num_groups')),
  native_group_norm: (c) => groupNorm(c, c.number('group')),
  layer_norm: layerNorm,
  native_layer_norm: layerNorm,
  rms_norm: rmsNorm,
  max_pool1d: maxPool(1),
  max_pool2d: maxPool(2),
  max_pool3d: maxPool(3),
  max_pool2d_with_indices: maxPool(2),
  max_pool3d_with_indices: maxPool(3),
  avg_pool1d: avgPool(1),
  avg_pool2d: avgPool(2),
  avg_pool3d: avgPool(3),
  adaptive_avg_pool1d: adaptivePool('Average', 1),
  adaptive_avg_pool2d: adaptivePool('Average', 2),
  adaptive_avg_pool3d: adaptivePool('Average', 3),
  _adaptive_avg_pool2d: adaptivePool('Average', 2),
  adaptive_max_pool1d: adaptivePool('Max', 1),
  adaptive_max_pool2d: adaptivePool('Max', 2),
  softmax: softmax('Softmax'),
  _softmax: softmax('Softmax'),
  _safe_softmax: softmax('Softmax'),
  log_softmax: softmax('LogSoftmax'),
  _log_softmax: softmax('LogSoftmax'),
  scaled_dot_product_attention: attention,
  prelu,
  _prelu_kernel: prelu,
};
