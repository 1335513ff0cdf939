// franz-go for tests/clients: the jobs of tests/clients/peer.py.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

const deadline = 30 * time.Second

type record struct {
	Topic     string       `json:"topic"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp int64        `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

// job is a line from stdin; what a job needs not is left empty.
type job struct {
	Number            int               `json:"job"`
	Stop              bool              `json:"stop"`
	Do                string            `json:"do"`
	Bootstrap         string            `json:"bootstrap"`
	Topic             string            `json:"topic"`
	Topics            []string          `json:"topics"`
	Codec             string            `json:"codec"`
	Idempotent        bool              `json:"idempotent"`
	Records           []record          `json:"records"`
	From              json.RawMessage   `json:"from"`
	Group             string            `json:"group"`
	Strategy          string            `json:"strategy"`
	Instance          *string           `json:"instance"`
	Partitions        json.RawMessage   `json:"partitions"`
	Prefix            string            `json:"prefix"`
	Call              string            `json:"call"`
	Type              string            `json:"type"`
	Name              string            `json:"name"`
	ReplicationFactor *int16            `json:"replication_factor"`
	Configs           map[string]string `json:"configs"`
	Set               map[string]string `json:"set"`
	Delete            []string          `json:"delete"`
	ValidateOnly      bool              `json:"validate_only"`
	Count             int               `json:"count"`
	Partition         int32             `json:"partition"`
	Before            int64             `json:"before"`
	At                json.RawMessage   `json:"at"`
	Offsets           [][3]any          `json:"offsets"`
	TransactionalID   string            `json:"transactional_id"`
	AbortEvery        int               `json:"abort_every"`

	stopping context.Context
	stop     context.CancelFunc
}

type event map[string]any

var output struct {
	sync.Mutex
	*bufio.Writer
}

func write(message event) {
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	output.Write(line)
	output.WriteByte('\n')
	output.Flush()
}

func (j *job) emit(message event) {
	message["job"] = j.Number
	write(message)
}

// partitionCount is the field "partitions" as a number, or what is given where the job has none.
func (j *job) partitionCount(otherwise int32) int32 {
	var count int32
	if json.Unmarshal(j.Partitions, &count) != nil {
		return otherwise
	}
	return count
}

func encoded(data []byte) *string {
	if data == nil {
		return nil
	}
	text := base64.StdEncoding.EncodeToString(data)
	return &text
}

func decoded(text *string) []byte {
	if text == nil {
		return nil
	}
	data, err := base64.StdEncoding.DecodeString(*text)
	if err != nil {
		panic(err)
	}
	if data == nil {
		data = []byte{}
	}
	return data
}

var jobs = map[string]func(*job) (any, error){
	"produce": produce,
	"read":    read,
	"member":  member,
	"steady":  steady,
	"process": process,
	"admin":   admin,
}

func (j *job) run() {
	result, err := jobs[j.Do](j)
	if err == nil {
		j.emit(event{"done": result})
		return
	}
	fmt.Fprintln(os.Stderr, j.Do, j.Call, err)
	var code any
	var kafkaError *kerr.Error
	if errors.As(err, &kafkaError) {
		code = kafkaError.Code
	}
	j.emit(event{"failed": err.Error(), "code": code})
}

func version() string {
	if built, ok := debug.ReadBuildInfo(); ok {
		for _, module := range built.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				return module.Version
			}
		}
	}
	return "?"
}

func main() {
	output.Writer = bufio.NewWriterSize(os.Stdout, 1<<16)
	write(event{"ready": "franz-go " + version()})
	running := map[int]*job{}
	input := bufio.NewReaderSize(os.Stdin, 1<<16)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return
		}
		j := &job{}
		if err := json.Unmarshal(line, j); err != nil {
			panic(err)
		}
		if j.Stop {
			running[j.Number].stop()
			continue
		}
		j.stopping, j.stop = context.WithCancel(context.Background())
		running[j.Number] = j
		go j.run()
	}
}
