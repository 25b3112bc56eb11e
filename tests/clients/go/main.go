// Ollama's own client for Go, which its command is made of, told what to do: commands come one JSON object a line,
// and each is answered with one line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/ollama/ollama/api"
)

type command struct {
	Do    string          `json:"do"`
	Body  json.RawMessage `json:"body"`
	Leave bool            `json:"leave"` // after the first piece
}

type failure struct {
	Message string `json:"message"`
	Status  int    `json:"status"`
}

type answer struct {
	Pieces []any    `json:"pieces"`
	Value  any      `json:"value"`
	Error  *failure `json:"error"`
}

// streamed makes a request of the body and collects the pieces of its answer.
func streamed[Request, Piece any](
	ctx context.Context, asked command, call func(context.Context, *Request, func(Piece) error) error,
) (got answer, err error) {
	var request Request
	if err = json.Unmarshal(asked.Body, &request); err != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = call(ctx, &request, func(piece Piece) error {
		got.Pieces = append(got.Pieces, piece)
		if asked.Leave {
			cancel()
		}
		return nil
	})
	return
}

// single makes a request of the body that has one answer.
func single[Request, Value any](
	ctx context.Context, asked command, call func(context.Context, *Request) (Value, error),
) (got answer, err error) {
	var request Request
	if err = json.Unmarshal(asked.Body, &request); err != nil {
		return
	}
	got.Value, err = call(ctx, &request)
	return
}

func nothing[Request any](call func(context.Context, *Request) error) func(context.Context, *Request) (string, error) {
	return func(ctx context.Context, request *Request) (string, error) { return "done", call(ctx, request) }
}

func perform(client *api.Client, asked command) (got answer, err error) {
	ctx := context.Background()
	switch asked.Do {
	case "chat":
		return streamed(ctx, asked, func(ctx context.Context, request *api.ChatRequest, take func(api.ChatResponse) error) error {
			return client.Chat(ctx, request, take)
		})
	case "generate":
		return streamed(ctx, asked, func(ctx context.Context, request *api.GenerateRequest, take func(api.GenerateResponse) error) error {
			return client.Generate(ctx, request, take)
		})
	case "pull":
		return streamed(ctx, asked, func(ctx context.Context, request *api.PullRequest, take func(api.ProgressResponse) error) error {
			return client.Pull(ctx, request, take)
		})
	case "push":
		return streamed(ctx, asked, func(ctx context.Context, request *api.PushRequest, take func(api.ProgressResponse) error) error {
			return client.Push(ctx, request, take)
		})
	case "create":
		return streamed(ctx, asked, func(ctx context.Context, request *api.CreateRequest, take func(api.ProgressResponse) error) error {
			return client.Create(ctx, request, take)
		})
	case "show":
		return single(ctx, asked, client.Show)
	case "embed":
		return single(ctx, asked, client.Embed)
	case "embeddings":
		return single(ctx, asked, client.Embeddings)
	case "copy":
		return single(ctx, asked, nothing(client.Copy))
	case "delete":
		return single(ctx, asked, nothing(client.Delete))
	case "list":
		got.Value, err = client.List(ctx)
	case "ps":
		got.Value, err = client.ListRunning(ctx)
	case "version":
		got.Value, err = client.Version(ctx)
	case "heartbeat":
		got.Value, err = "done", client.Heartbeat(ctx)
	default:
		err = fmt.Errorf("no such command: %s", asked.Do)
	}
	return
}

func main() {
	address, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	client := api.NewClient(address, http.DefaultClient)
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		got, err := perform(client, asked)
		if err != nil {
			got.Error = &failure{Message: err.Error()}
			var told api.StatusError
			if errors.As(err, &told) {
				got.Error.Message, got.Error.Status = told.ErrorMessage, told.StatusCode
			}
		}
		if err := out.Encode(got); err != nil {
			panic(err)
		}
	}
}
