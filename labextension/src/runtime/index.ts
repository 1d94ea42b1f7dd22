export * from './manager';
export * from './restapi';
export * from './stream';
export * from './validate';
