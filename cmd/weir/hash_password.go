package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

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
		return askPassword(int(f.Fd()), prompt)
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

// askPassword asks for a password twice, without showing it. Whoever interrupts it has
// a terminal that shows what they write.
func askPassword(fd int, prompt io.Writer) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)

	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // it ends with the process, where it is interrupted
		text, err := askTwice(fd, prompt)
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case s := <-interrupts:
		if err := term.Restore(fd, before); err != nil {
			return "", fmt.Errorf("the terminal shows nothing: %w", err)
		}
		fmt.Fprintln(prompt)
		return "", fmt.Errorf("no password: %v", s)
	}
}

func askTwice(fd int, prompt io.Writer) (string, error) {
	var given [2]string
	for i, words := range []string{"Password: ", "Again: "} {
		fmt.Fprint(prompt, words)
		b, err := term.ReadPassword(fd)
		fmt.Fprintln(prompt)
		if err == nil {
			given[i], err = checkPassword(string(b))
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
