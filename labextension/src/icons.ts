/** The icon of the extension: a mirror that sends a ray to its target. */
import { LabIcon } from '@jupyterlab/ui-components';

import heliostatSvg from '../style/heliostat.svg';

export const heliostatIcon = new LabIcon({ name: 'heliostat:mirror', svgstr: heliostatSvg });
