/**
 * VGG (https://arxiv.org/abs/1409.1556) and AlexNet (https://arxiv.org/abs/1404.5997): convolutions in a row under numbers, then three
 * linear layers.
 */
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

/** Convolutions a stage; a pooling ends each. */
const CHANNELS = [64, 128, 256, 512, 512];

function classifier(net: Network, x: string, features: number, layers: readonly [number, number, number]): string {
  const last = `classifier.${layers[2]}`;
  let y = net.relu(net.linear(`classifier.${layers[0]}`, net.flatten(x), features, 4096));
  y = net.relu(net.linear(`classifier.${layers[1]}`, y, 4096, 4096));
  return net.linear(last, y, 4096, net.rows(`${last}.weight`, 1000));
}

function vgg(name: string, depths: readonly number[], batchNorm: boolean): Architecture {
  return {
    name,
    imageSize: 224,
    define(net, input) {
      let [x, from, index] = [input, 3, 0];
      for (const [stage, depth] of depths.entries()) {
        const to = CHANNELS[stage];
        for (let i = 0; i < depth; i++) {
          x = net.conv(`features.${index++}`, x, from, to, { kernel: 3, padding: 1, bias: true });
          if (batchNorm) x = net.batchNorm(`features.${index++}`, x, to);
          x = net.relu(x);
          index++;
          from = to;
        }
        x = net.maxPool(x, { kernel: 2, stride: 2 });
        index++;
      }
      return classifier(net, net.adaptiveAvgPool(x, 7), 512 * 49, [0, 3, 6]);
    },
  };
}

const alexnet: Architecture = {
  name: 'alexnet',
  imageSize: 224,
  define(net, input) {
    const conv = (
      i: number,
      x: string,
      from: number,
      to: number,
      kernel: number,
      padding: number,
      stride = 1,
    ): string => net.relu(net.conv(`features.${i}`, x, from, to, { kernel, padding, stride, bias: true }));
    const pool = (x: string): string => net.maxPool(x, { kernel: 3, stride: 2 });
    let x = pool(conv(0, input, 3, 64, 11, 2, 4));
    x = pool(conv(3, x, 64, 192, 5, 2));
    x = conv(8, conv(6, x, 192, 384, 3, 1), 384, 256, 3, 1);
    x = pool(conv(10, x, 256, 256, 3, 1));
    return classifier(net, net.adaptiveAvgPool(x, 6), 256 * 36, [1, 4, 6]);
  },
};

const DEPTHS: Readonly<Record<string, readonly number[]>> = {
  vgg11: [1, 1, 2, 2, 2],
  vgg13: [2, 2, 2, 2, 2],
  vgg16: [2, 2, 3, 3, 3],
  vgg19: [2, 2, 4, 4, 4],
};

export const VGG: Family = {
  marks: ['features.0.weight', 'classifier.6.weight'],
  members: [
    ...Object.entries(DEPTHS).flatMap(([name, depths]) => [vgg(name, depths, false), vgg(`${name}_bn`, depths, true)]),
    alexnet,
  ],
};
