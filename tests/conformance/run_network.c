/*
 * Runs one network on one input: run_network MODEL.onnx BACKEND INPUT OUTPUT
 *
 * INPUT and OUTPUT are files of nothing but 32-bit floats, the network's first input and output.
 */
#include "myriops/model.h"

#include "base/buffer.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what)
{
    fprintf(stderr, "run_network: %s\n", what);
    return 1;
}

static size_t count_floats(const myr_tensor_info *info)
{
    size_t n = 1;
    for (int i = 1; i < info->rank; i++)
        n *= (size_t)info->dims[i];
    return n;
}

static int write_floats(const char *path, const float *values, size_t n)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return fail("the output cannot be opened");
    bool whole = fwrite(values, sizeof *values, n, file) == n;
    return fclose(file) == 0 && whole ? 0 : fail("the output cannot be written");
}

static int run(const myr_model *model, const char *backend, const myr_buffer *input, const char *to)
{
    myr_network *network = NULL;
    myr_session *session = NULL;
    size_t n_values = count_floats(myr_model_input(model, 0)), n_out;
    size_t batch = n_values > 0 ? input->size / sizeof(float) / n_values : 0;
    const char *name = myr_model_output(model, 0)->name;
    int result = 1;
    if (batch < 1 || batch * n_values * sizeof(float) != input->size)
        return fail("the input is not as long as the network wants it");
    if (myr_network_create(model, &(myr_network_options){.backend = backend, .batch = (int)batch}, &name, 1,
                           &network) != MYR_OK ||
        myr_session_create(network, &session) != MYR_OK) {
        fail(myr_error_detail());
        goto done;
    }
    memcpy(myr_session_input(session), input->data, input->size);
    if (myr_session_run(session) != MYR_OK) {
        fail(myr_error_detail());
        goto done;
    }
    const float *output = myr_session_output(session, 0, &n_out);
    result = write_floats(to, output, batch * n_out);
done:
    myr_session_free(session);
    myr_network_free(network);
    return result;
}

int main(int argc, char **argv)
{
    myr_model *model = NULL;
    myr_buffer input = {0};
    if (argc != 5)
        return fail("usage: run_network MODEL.onnx BACKEND INPUT OUTPUT");
    int result = myr_model_load(argv[1], &model) == MYR_OK && myr_file_read(argv[3], (size_t)1 << 30, &input) == MYR_OK
                     ? run(model, argv[2], &input, argv[4])
                     : fail(myr_error_detail());
    myr_buffer_free(&input);
    myr_model_free(model);
    return result;
}
