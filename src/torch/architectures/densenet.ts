/**
 * DenseNet: https://arxiv.org/abs/1608.06993. Each layer reads all that came before it in its block.
 */
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

/** A layer's first convolution makes this many times the channels that its second adds. */
const BOTTLENECK = 4;

function denseLayer(net: Network, name: string, x: string, from: number, growth: number): string {
  const width = BOTTLENECK * growth;
  const y = net.conv(`${name}.conv1`, net.relu(net.batchNorm(`${name}.norm1`, x, from)), from, width, { kernel: 1 });
  return net.conv(`${name}.conv2`, net.relu(net.batchNorm(`${name}.norm2`, y, width)), width, growth, {
    kernel: 3,
    padding: 1,
  });
}

const densenet = (name: string, growth: number, depths: readonly number[], stem: number): Architecture => ({
  name,
  imageSize: 224,
  define(net, input) {
    let x = net.conv('features.conv0', input, 3, stem, { kernel: 7, stride: 2, padding: 3 });
    x = net.maxPool(net.relu(net.batchNorm('features.norm0', x, stem)), { kernel: 3, stride: 2, padding: 1 });
    let channels = stem;
    for (const [i, depth] of depths.entries()) {
      for (let layer = 1; layer <= depth; layer++) {
        const added = denseLayer(net, `features.denseblock${i + 1}.denselayer${layer}`, x, channels, growth);
        x = net.concat([x, added]);
        channels += growth;
      }
      if (i === depths.length - 1) break;
      const transition = `features.transition${i + 1}`;
      const half = Math.floor(channels / 2);
      x = net.relu(net.batchNorm(`${transition}.norm`, x, channels));
      x = net.avgPool(net.conv(`${transition}.conv`, x, channels, half, { kernel: 1 }), { kernel: 2, stride: 2 });
      channels = half;
    }
    x = net.relu(net.batchNorm('features.norm5', x, channels));
    return net.linear('classifier', net.flatten(net.globalAvgPool(x)), channels, net.rows('classifier.weight', 1000));
  },
});

export const DENSENET: Family = {
  marks: ['features.conv0.weight', 'features.norm5.weight', 'classifier.weight'],
  // The weights that torchvision publishes are older than its module names: `norm.1` became `norm1`.
  currentKey: (key) => key.replace(/(denselayer\d+\.(?:norm|conv))\.([12]\.)/, '$1$2'),
  members: [
    densenet('densenet121', 32, [6, 12, 24, 16], 64),
    densenet('densenet161', 48, [6, 12, 36, 24], 96),
    densenet('densenet169', 32, [6, 12, 32, 32], 64),
    densenet('densenet201', 32, [6, 12, 48, 32], 64),
  ],
};
