/**
 * ConvNeXt: https://arxiv.org/abs/2201.03545.
 */
import type { Architecture, Family } from './architecture.ts';
import type { Network } from './network.ts';

const EPSILON = 1e-6;
const TO_LAST = [0, 2, 3, 1];
const TO_SECOND = [0, 3, 1, 2];

/** Layer normalisation over the channels of [N, C, H, W]. */
const channelNorm = (net: Network, name: string, x: string, channels: number): string =>
  net.transpose(net.layerNorm(name, net.transpose(x, TO_LAST), channels, EPSILON), TO_SECOND);

function block(net: Network, name: string, x: string, channels: number): string {
  let y = net.conv(`${name}.block.0`, x, channels, channels, { kernel: 7, padding: 3, groups: channels, bias: true });
  y = net.layerNorm(`${name}.block.2`, net.transpose(y, TO_LAST), channels, EPSILON);
  y = net.activation('gelu', net.linear(`${name}.block.3`, y, channels, 4 * channels, 4));
  y = net.transpose(net.linear(`${name}.block.5`, y, 4 * channels, channels, 4), TO_SECOND);
  return net.add(x, net.mul(y, net.param(`${name}.layer_scale`, [channels, 1, 1])));
}

const convnext = (name: string, depths: readonly number[], width: number, imageSize: number): Architecture => ({
  name,
  imageSize,
  define(net, input) {
    let channels = width;
    let x = net.conv('features.0.0', input, 3, channels, { kernel: 4, stride: 4, bias: true });
    x = channelNorm(net, 'features.0.1', x, channels);
    for (const [stage, depth] of depths.entries()) {
      for (let i = 0; i < depth; i++) x = block(net, `features.${2 * stage + 1}.${i}`, x, channels);
      if (stage === depths.length - 1) break;
      const down = `features.${2 * stage + 2}`;
      x = channelNorm(net, `${down}.0`, x, channels);
      x = net.conv(`${down}.1`, x, channels, 2 * channels, { kernel: 2, stride: 2, bias: true });
      channels *= 2;
    }
    x = net.flatten(channelNorm(net, 'classifier.0', net.globalAvgPool(x), channels));
    return net.linear('classifier.2', x, channels, net.rows('classifier.2.weight', 1000));
  },
});

export const CONVNEXT: Family = {
  marks: ['features.0.0.weight', 'features.1.0.layer_scale', 'classifier.2.weight'],
  members: [
    convnext('convnext_tiny', [3, 3, 9, 3], 96, 224),
    convnext('convnext_small', [3, 3, 27, 3], 96, 224),
    convnext('convnext_base', [3, 3, 27, 3], 128, 224),
    convnext('convnext_large', [3, 3, 27, 3], 192, 224),
  ],
};
