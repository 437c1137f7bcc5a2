// Package config is weir's file format: YAML in, a tree of plain typed values
// out, and nothing else. It knows every key, default, unit and rule that an
// operator can write; it builds nothing and starts nothing. Only package main
// reads it, and hands its values on as arguments: no other room knows the format.
//
// [Load] reads files, [Default] is what weir runs without one, and
// [Config.Effective] prints what holds in the end.
//
// # Laws
//
//   - Whatever Load returns can be used as it is: every default is filled in, every
//     name refers to something, every file that is named can be read.
//   - An error says where: the file and line that set the value, also when another
//     file overrode its neighbours. All errors are reported at once, in that order.
//   - A key that is not known is an error, with the nearest known one as a hint.
//     A key is known only if something obeys it.
//   - The destination decides what a scalar means. A password of 0123 stays "0123",
//     and there is no second spelling of true.
//   - A [Secret] shows itself to nobody but the caller of [Secret.Value].
//   - What Effective prints is itself a valid file with the same meaning, but for
//     the secrets.
//
// It refuses anchors, aliases, tags, merge keys and more than one document in a
// file: a configuration is read by people more often than by programs.
package config
