package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/weir-registry/weir/authz/basic"
)

func newHashPassword() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "hash-password [--user U]",
		Short: "Hash a password for the configuration, or for an htpasswd file",
		Long: `Reads a password and prints its Argon2id hash, for authz.basic.users; with --user
the line for that user in an htpasswd file, for authz.basic.htpasswd.

On a terminal the password is asked for twice and not shown. Else it is the one line
that comes on standard input. Each time the hash is another one: it is salted.`,
		Example: `  weir hash-password --user ann >> /etc/weir/htpasswd
  pass show registry/ci | weir hash-password`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := cmd.Flags().Changed("user")
			if named {
				if err := basic.CheckName(user); err != nil {
					return misused(cmd, "--user: %w", err)
				}
				if strings.HasPrefix(user, "#") {
					return misused(cmd, `--user: a line that begins with "#" is a remark in an htpasswd file`)
				}
			}
			password, err := readPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			line := basic.NewHash(password).Text()
			if named {
				line = user + ":" + line
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "print the line of user `U` in an htpasswd file")
	return cmd
}

// readPassword reads a password from a terminal, or the only line of what is no terminal.
func readPassword(in io.Reader, prompt io.Writer) (string, error) {
	f, ok := in.(*os.File)
	if ok && term.IsTerminal(int(f.Fd())) {
		return askPassword(f, prompt)
	}
	b, err := io.ReadAll(io.LimitReader(in, basic.MaxPassword+3)) // and a line end
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return checkPassword(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"))
}

func checkPassword(s string) (string, error) {
	switch {
	case s == "":
		return "", errors.New("the password is empty")
	case len(s) > basic.MaxPassword:
		return "", fmt.Errorf("the password is longer than %d bytes", basic.MaxPassword)
	case strings.ContainsAny(s, "\r\n\x00"):
		return "", errors.New("the password holds a line end: write one line")
	}
	return s, nil
}

// askPassword asks for a password twice. The terminal shows nothing from before the
// first question on.
func askPassword(f *os.File, prompt io.Writer) (_ string, err error) {
	before, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	defer func() { err = errors.Join(err, term.Restore(int(f.Fd()), before)) }()
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{f, prompt}, "")
	var given [2]string
	for i, words := range []string{"Password: ", "Again: "} {
		given[i], err = t.ReadPassword(words)
		if errors.Is(err, io.EOF) { // ^C, ^D
			fmt.Fprint(prompt, "\r\n")
			return "", errors.New("no password")
		}
		if err == nil {
			given[i], err = checkPassword(given[i])
		}
		if err != nil {
			return "", err
		}
	}
	if given[0] != given[1] {
		return "", errors.New("the passwords are not the same")
	}
	return given[0], nil
}
