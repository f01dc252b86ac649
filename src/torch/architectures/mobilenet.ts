/**
 * MobileNetV2 (https://arxiv.org/abs/1801.04381) and MobileNetV3 (https://arxiv.org/abs/1905.02244).
 */
import type { Architecture, Family } from './architecture.ts';
import { convNorm, divisible, squeezeExcite } from './mobile-blocks.ts';
import type { Activation, Network } from './network.ts';

/** Expansion, channels out, blocks, stride of the first. */
const V2_STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

function invertedResidual(
  net: Network,
  name: string,
  x: string,
  from: number,
  to: number,
  expand: number,
  stride: number,
) {
  const width = from * expand;
  const parts = expand === 1 ? 0 : 1;
  let y = x;
  if (expand !== 1) y = convNorm(net, `${name}.conv.0`, y, from, width, { kernel: 1 }, 'relu6');
  y = convNorm(net, `${name}.conv.${parts}`, y, width, width, { kernel: 3, stride, groups: width }, 'relu6');
  y = net.conv(`${name}.conv.${parts + 1}`, y, width, to, { kernel: 1 });
  y = net.batchNorm(`${name}.conv.${parts + 2}`, y, to);
  return stride === 1 && from === to ? net.add(x, y) : y;
}

const mobilenetV2: Architecture = {
  name: 'mobilenet_v2',
  imageSize: 224,
  define(net, input) {
    let x = convNorm(net, 'features.0', input, 3, 32, { kernel: 3, stride: 2 }, 'relu6');
    let [from, index] = [32, 1];
    for (const [expand, to, count, firstStride] of V2_STAGES) {
      for (let i = 0; i < count; i++) {
        x = invertedResidual(net, `features.${index++}`, x, from, to, expand, i === 0 ? firstStride : 1);
        from = to;
      }
    }
    x = convNorm(net, `features.${index}`, x, from, 1280, { kernel: 1 }, 'relu6');
    return net.linear('classifier.1', net.flatten(net.globalAvgPool(x)), 1280, net.rows('classifier.1.weight', 1000));
  },
};

interface V3Block {
  readonly kernel: number;
  readonly width: number;
  readonly to: number;
  readonly squeezes: boolean;
  readonly activation: 'relu' | 'hardswish';
  readonly stride: number;
}

const V3_EPSILON = 1e-3;

function v3Block(net: Network, name: string, x: string, from: number, block: V3Block): string {
  const { kernel, width, to, squeezes, activation, stride } = block;
  let index = 0;
  let y = x;
  const conv = (
    a: number,
    b: number,
    options: { kernel: number; stride?: number; groups?: number },
    act: Activation,
  ): void => {
    y = convNorm(net, `${name}.block.${index++}`, y, a, b, options, act, V3_EPSILON);
  };
  if (width !== from) conv(from, width, { kernel: 1 }, activation);
  conv(width, width, { kernel, stride, groups: width }, activation);
  if (squeezes) {
    const squeezed = divisible(Math.floor(width / 4), 8);
    y = squeezeExcite(net, `${name}.block.${index++}`, y, width, squeezed, 'relu', 'hardsigmoid');
  }
  conv(width, to, { kernel: 1 }, 'none');
  return stride === 1 && from === to ? net.add(x, y) : y;
}

const mobilenetV3 = (name: string, blocks: readonly V3Block[], hidden: number): Architecture => ({
  name,
  imageSize: 224,
  define(net, input) {
    let from = 16;
    let x = convNorm(net, 'features.0', input, 3, from, { kernel: 3, stride: 2 }, 'hardswish', V3_EPSILON);
    for (const [i, block] of blocks.entries()) {
      x = v3Block(net, `features.${i + 1}`, x, from, block);
      from = block.to;
    }
    const last = 6 * from;
    x = convNorm(net, `features.${blocks.length + 1}`, x, from, last, { kernel: 1 }, 'hardswish', V3_EPSILON);
    x = net.activation('hardswish', net.linear('classifier.0', net.flatten(net.globalAvgPool(x)), last, hidden));
    return net.linear('classifier.3', x, hidden, net.rows('classifier.3.weight', 1000));
  },
});

/** Kernel, expanded width, channels out, squeeze-and-excite, activation, stride: table 1 and 2 of the paper. */
const row = (kernel: number, width: number, to: number, se: 0 | 1, act: 'RE' | 'HS', stride: number): V3Block => ({
  kernel,
  width,
  to,
  squeezes: se === 1,
  activation: act === 'RE' ? 'relu' : 'hardswish',
  stride,
});

const LARGE = [
  row(3, 16, 16, 0, 'RE', 1),
  row(3, 64, 24, 0, 'RE', 2),
  row(3, 72, 24, 0, 'RE', 1),
  row(5, 72, 40, 1, 'RE', 2),
  row(5, 120, 40, 1, 'RE', 1),
  row(5, 120, 40, 1, 'RE', 1),
  row(3, 240, 80, 0, 'HS', 2),
  row(3, 200, 80, 0, 'HS', 1),
  row(3, 184, 80, 0, 'HS', 1),
  row(3, 184, 80, 0, 'HS', 1),
  row(3, 480, 112, 1, 'HS', 1),
  row(3, 672, 112, 1, 'HS', 1),
  row(5, 672, 160, 1, 'HS', 2),
  row(5, 960, 160, 1, 'HS', 1),
  row(5, 960, 160, 1, 'HS', 1),
];
const SMALL = [
  row(3, 16, 16, 1, 'RE', 2),
  row(3, 72, 24, 0, 'RE', 2),
  row(3, 88, 24, 0, 'RE', 1),
  row(5, 96, 40, 1, 'HS', 2),
  row(5, 240, 40, 1, 'HS', 1),
  row(5, 240, 40, 1, 'HS', 1),
  row(5, 120, 48, 1, 'HS', 1),
  row(5, 144, 48, 1, 'HS', 1),
  row(5, 288, 96, 1, 'HS', 2),
  row(5, 576, 96, 1, 'HS', 1),
  row(5, 576, 96, 1, 'HS', 1),
];

export const MOBILENET_V2: Family = {
  marks: ['features.0.0.weight', 'features.1.conv.0.0.weight', 'classifier.1.weight'],
  members: [mobilenetV2],
};
export const MOBILENET_V3: Family = {
  marks: ['features.0.0.weight', 'features.1.block.0.0.weight', 'classifier.3.weight'],
  members: [mobilenetV3('mobilenet_v3_large', LARGE, 1280), mobilenetV3('mobilenet_v3_small', SMALL, 1024)],
};
