/**
 * SqueezeNet 1.0 and 1.1: https://arxiv.org/abs/1602.07360. Pooling rounds up.
 */
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

/** A fire module, by its channels (in, squeezed, expanded by 1x1 and by 3x3 each), or a pooling. */
type Row = readonly [from: number, squeeze: number, expand: number] | 'pool';

function fire(net: Network, name: string, x: string, [from, squeeze, expand]: Exclude<Row, 'pool'>): string {
  const conv = (part: string, y: string, a: number, b: number, kernel: number): string =>
    net.relu(net.conv(`${name}.${part}`, y, a, b, { kernel, padding: (kernel - 1) / 2, bias: true }));
  const squeezed = conv('squeeze', x, from, squeeze, 1);
  return net.concat([conv('expand1x1', squeezed, squeeze, expand, 1), conv('expand3x3', squeezed, squeeze, expand, 3)]);
}

const squeezenet = (
  name: string,
  stem: { readonly channels: number; readonly kernel: number },
  rows: readonly Row[],
): Architecture => ({
  name,
  imageSize: 224,
  define(net, input) {
    let x = net.relu(net.conv('features.0', input, 3, stem.channels, { kernel: stem.kernel, stride: 2, bias: true }));
    for (const [i, row] of rows.entries()) {
      x =
        row === 'pool' ? net.maxPool(x, { kernel: 3, stride: 2, ceil: true }) : fire(net, `features.${i + 2}`, x, row);
    }
    const classes = net.rows('classifier.1.weight', 1000);
    return net.flatten(
      net.globalAvgPool(net.relu(net.conv('classifier.1', x, 512, classes, { kernel: 1, bias: true }))),
    );
  },
});

export const SQUEEZENET: Family = {
  marks: ['features.0.weight', 'features.3.squeeze.weight', 'classifier.1.weight'],
  members: [
    squeezenet('squeezenet1_0', { channels: 96, kernel: 7 }, [
      'pool',
      [96, 16, 64],
      [128, 16, 64],
      [128, 32, 128],
      'pool',
      [256, 32, 128],
      [256, 48, 192],
      [384, 48, 192],
      [384, 64, 256],
      'pool',
      [512, 64, 256],
    ]),
    squeezenet('squeezenet1_1', { channels: 64, kernel: 3 }, [
      'pool',
      [64, 16, 64],
      [128, 16, 64],
      'pool',
      [128, 32, 128],
      [256, 32, 128],
      'pool',
      [256, 48, 192],
      [384, 48, 192],
      [384, 64, 256],
      [512, 64, 256],
    ]),
  ],
};
