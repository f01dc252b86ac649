/**
 * EfficientNet B0 to B7 (https://arxiv.org/abs/1905.11946) and EfficientNetV2 (https://arxiv.org/abs/2104.00298).
 */
import type { Architecture, Family } from './architecture.ts';
import { convNorm, divisible, squeezeExcite } from './mobile-blocks.ts';
import type { Network } from './network.ts';

interface Stage {
  readonly fused: boolean;
  readonly expand: number;
  readonly kernel: number;
  readonly stride: number;
  readonly from: number;
  readonly to: number;
  readonly blocks: number;
}

function block(
  net: Network,
  name: string,
  x: string,
  from: number,
  stride: number,
  stage: Stage,
  epsilon: number,
): string {
  const { fused, expand, kernel, to } = stage;
  const width = divisible(from * expand, 8);
  let index = 0;
  const next = (): string => `${name}.block.${index++}`;
  let y = x;
  if (fused) {
    const first = width === from ? to : width;
    y = convNorm(net, next(), y, from, first, { kernel, stride }, 'silu', epsilon);
    if (width !== from) y = convNorm(net, next(), y, width, to, { kernel: 1 }, 'none', epsilon);
  } else {
    if (width !== from) y = convNorm(net, next(), y, from, width, { kernel: 1 }, 'silu', epsilon);
    y = convNorm(net, next(), y, width, width, { kernel, stride, groups: width }, 'silu', epsilon);
    y = squeezeExcite(net, next(), y, width, Math.max(1, Math.floor(from / 4)), 'silu', 'sigmoid');
    y = convNorm(net, next(), y, width, to, { kernel: 1 }, 'none', epsilon);
  }
  return stride === 1 && from === to ? net.add(x, y) : y;
}

const efficientnet = (
  name: string,
  stages: readonly Stage[],
  imageSize: number,
  epsilon: number,
  lastChannels?: number,
): Architecture => ({
  name,
  imageSize,
  define(net, input) {
    let from = stages[0].from;
    let x = convNorm(net, 'features.0', input, 3, from, { kernel: 3, stride: 2 }, 'silu', epsilon);
    for (const [i, stage] of stages.entries()) {
      for (let j = 0; j < stage.blocks; j++) {
        x = block(net, `features.${i + 1}.${j}`, x, from, j === 0 ? stage.stride : 1, stage, epsilon);
        from = stage.to;
      }
    }
    const last = lastChannels ?? 4 * from;
    x = convNorm(net, `features.${stages.length + 1}`, x, from, last, { kernel: 1 }, 'silu', epsilon);
    return net.linear('classifier.1', net.flatten(net.globalAvgPool(x)), last, net.rows('classifier.1.weight', 1000));
  },
});

/** Expansion, kernel, stride, channels in and out, blocks: table 1 of the paper, before it is scaled. */
const B0 = [
  [1, 3, 1, 32, 16, 1],
  [6, 3, 2, 16, 24, 2],
  [6, 5, 2, 24, 40, 2],
  [6, 3, 2, 40, 80, 3],
  [6, 5, 1, 80, 112, 3],
  [6, 5, 2, 112, 192, 4],
  [6, 3, 1, 192, 320, 1],
] as const;

const scaled = (name: string, width: number, depth: number, imageSize: number, epsilon = 1e-5): Architecture => {
  const stages = B0.map(([expand, kernel, stride, from, to, blocks]) => ({
    ...{ fused: false, expand, kernel, stride },
    from: divisible(from * width, 8),
    to: divisible(to * width, 8),
    blocks: Math.ceil(blocks * depth),
  }));
  return efficientnet(name, stages, imageSize, epsilon);
};

const V2_EPSILON = 1e-3;
const V2_LAST = 1280;

/** Whether the expansion is fused with the depthwise convolution, expansion, stride, channels in and out, blocks. */
type V2Row = readonly ['fused' | 'separate', number, number, number, number, number];

const v2 = (name: string, imageSize: number, rows: readonly V2Row[]): Architecture => {
  const stages = rows.map(([form, expand, stride, from, to, blocks]): Stage => {
    return { fused: form === 'fused', expand, kernel: 3, stride, from, to, blocks };
  });
  return efficientnet(name, stages, imageSize, V2_EPSILON, V2_LAST);
};

export const EFFICIENTNET: Family = {
  marks: ['features.0.0.weight', 'features.1.0.block.0.0.weight', 'classifier.1.weight'],
  members: [
    scaled('efficientnet_b0', 1, 1, 224),
    scaled('efficientnet_b1', 1, 1.1, 240),
    scaled('efficientnet_b2', 1.1, 1.2, 288),
    scaled('efficientnet_b3', 1.2, 1.4, 300),
    scaled('efficientnet_b4', 1.4, 1.8, 380),
    scaled('efficientnet_b5', 1.6, 2.2, 456, V2_EPSILON),
    scaled('efficientnet_b6', 1.8, 2.6, 528, V2_EPSILON),
    scaled('efficientnet_b7', 2, 3.1, 600, V2_EPSILON),
    v2('efficientnet_v2_s', 384, [
      ['fused', 1, 1, 24, 24, 2],
      ['fused', 4, 2, 24, 48, 4],
      ['fused', 4, 2, 48, 64, 4],
      ['separate', 4, 2, 64, 128, 6],
      ['separate', 6, 1, 128, 160, 9],
      ['separate', 6, 2, 160, 256, 15],
    ]),
    v2('efficientnet_v2_m', 480, [
      ['fused', 1, 1, 24, 24, 3],
      ['fused', 4, 2, 24, 48, 5],
      ['fused', 4, 2, 48, 80, 5],
      ['separate', 4, 2, 80, 160, 7],
      ['separate', 6, 1, 160, 176, 14],
      ['separate', 6, 2, 176, 304, 18],
      ['separate', 6, 1, 304, 512, 5],
    ]),
    v2('efficientnet_v2_l', 480, [
      ['fused', 1, 1, 32, 32, 4],
      ['fused', 4, 2, 32, 64, 7],
      ['fused', 4, 2, 64, 96, 7],
      ['separate', 4, 2, 96, 192, 10],
      ['separate', 6, 1, 192, 224, 19],
      ['separate', 6, 2, 224, 384, 25],
      ['separate', 6, 1, 384, 640, 7],
    ]),
  ],
};
