/**
 * Vision Transformer: https://arxiv.org/abs/2010.11929. The position embedding has a row a patch, so the weights fix the picture's size.
 */
import type { StateDict } from '../state-dict.ts';
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

interface ViT {
  readonly patch: number;
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
  readonly mlp: number;
}

const EPSILON = 1e-6;
const POSITIONS = 'encoder.pos_embedding';

function attention(net: Network, name: string, x: string, tokens: number, { heads, width }: ViT): string {
  const size = width / heads;
  const weight = net.param(`${name}.in_proj_weight`, [3 * width, width]);
  const qkv = net.affine(name, x, weight, net.param(`${name}.in_proj_bias`, [3 * width]), 3);
  const toHeads = net.ints([0, tokens, heads, size]);
  const [q, k, v] = net.split(qkv, 3, 2).map((part) => net.node('Reshape', [part, toHeads]));
  const scores = net.node('MatMul', [net.transpose(q, [0, 2, 1, 3]), net.transpose(k, [0, 2, 3, 1])]);
  const weights = net.node('Softmax', [net.mul(scores, net.scalar(1 / Math.sqrt(size)))], { axis: -1 });
  const mixed = net.transpose(net.node('MatMul', [weights, net.transpose(v, [0, 2, 1, 3])]), [0, 2, 1, 3]);
  const joined = net.node('Reshape', [mixed, net.ints([0, tokens, width])]);
  return net.linear(`${name}.out_proj`, joined, width, width, 3);
}

function layer(net: Network, name: string, x: string, tokens: number, config: ViT): string {
  const { width, mlp } = config;
  const y = net.layerNorm(`${name}.ln_1`, x, width, EPSILON);
  const attended = net.add(x, attention(net, `${name}.self_attention`, y, tokens, config));
  let z = net.layerNorm(`${name}.ln_2`, attended, width, EPSILON);
  z = net.activation('gelu', net.linear(`${name}.mlp.0`, z, width, mlp, 3));
  return net.add(attended, net.linear(`${name}.mlp.3`, z, mlp, width, 3));
}

/** Patches on a side, from the rows of the position embedding. */
function sideOf(shape: readonly number[] | undefined): number | undefined {
  const side = Math.sqrt((shape?.[1] ?? 0) - 1);
  return Number.isInteger(side) && side > 0 ? side : undefined;
}

const vit = (name: string, config: ViT, imageSize = 224): Architecture => ({
  name,
  imageSize,
  define(net, input) {
    const { patch, width } = config;
    const side = sideOf(net.shapeOf(POSITIONS)) ?? imageSize / patch;
    const tokens = side * side + 1;
    const patches = net.conv('conv_proj', input, 3, width, { kernel: patch, stride: patch, bias: true });
    const rows = net.transpose(net.node('Reshape', [patches, net.ints([0, width, side * side])]), [0, 2, 1]);
    const batch = net.node('Shape', [rows], { start: 0, end: 1 });
    const token = net.node('Expand', [
      net.param('class_token', [1, 1, width]),
      net.concat([batch, net.ints([1, width])], 0),
    ]);
    let x = net.add(net.concat([token, rows]), net.param(POSITIONS, [1, tokens, width]));
    for (let i = 0; i < config.layers; i++) x = layer(net, `encoder.layers.encoder_layer_${i}`, x, tokens, config);
    x = net.layerNorm('encoder.ln', x, width, EPSILON);
    const first = net.node('Gather', [x, net.index(0)], { axis: 1 });
    return net.linear('heads.head', first, width, net.rows('heads.head.weight', 1000));
  },
});

const BASE = { layers: 12, heads: 12, width: 768, mlp: 3072 };
const LARGE = { layers: 24, heads: 16, width: 1024, mlp: 4096 };
const HUGE = { layers: 32, heads: 16, width: 1280, mlp: 5120 };

export const VIT: Family = {
  marks: ['conv_proj.weight', 'class_token', POSITIONS],
  // `mlp.linear_1` and `mlp.linear_2` before torchvision 0.14.
  currentKey: (key) => key.replace('.mlp.linear_1.', '.mlp.0.').replace('.mlp.linear_2.', '.mlp.3.'),
  imageSizeOf(weights: StateDict) {
    const side = sideOf(weights.get(POSITIONS)?.shape);
    const patch = weights.get('conv_proj.weight')?.shape[2];
    return side && patch && side * patch;
  },
  members: [
    vit('vit_b_16', { patch: 16, ...BASE }),
    vit('vit_b_32', { patch: 32, ...BASE }),
    vit('vit_l_16', { patch: 16, ...LARGE }),
    vit('vit_l_32', { patch: 32, ...LARGE }),
    vit('vit_h_14', { patch: 14, ...HUGE }, 518),
  ],
};
