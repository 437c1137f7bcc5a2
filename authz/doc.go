// Package authz decides who may do what.
//
// What there is of it so far is what holds while nothing is configured: anyone may
// read, and only this machine may write. It knows requests and nothing of
// registries.
package authz
