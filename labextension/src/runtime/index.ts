export * from './manager';
export * from './restapi';
export * from './validate';
