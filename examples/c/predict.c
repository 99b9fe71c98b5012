/* Scores of a model without Python: samples of bytes on stdin, a line of scores each on stdout.
 *
 *     lgir compile model.onnx -o model.so --header model.h --prefix model
 *     cc -o predict predict.c ./model.so      (or model.o, model.a, or model.c of lgir export)
 *     ./predict < samples.u8
 */
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { BATCH = 512, IN = MODEL_INPUT_ELEMENTS, OUT = MODEL_OUTPUT_ELEMENTS };

static uint8_t samples[BATCH * IN];
static float scores[BATCH * OUT];

int main(void)
{
    void *workspace = malloc(MODEL_WORKSPACE_BYTES);
    size_t n;

    while (workspace && (n = fread(samples, IN, BATCH, stdin)) > 0) {
        int code = model_predict_u8(samples, (int64_t)n, scores, workspace);
        if (code != MODEL_OK) {
            fprintf(stderr, "model_predict_u8 returned %d\n", code);
            return code;
        }
        for (size_t i = 0; i < n * OUT; i++)
            printf("%.9g%c", scores[i], (i + 1) % OUT ? ' ' : '\n');
    }
    free(workspace);
    return workspace ? EXIT_SUCCESS : EXIT_FAILURE;
}
